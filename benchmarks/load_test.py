"""What a reading service bears, with batches and one image at a time: python benchmarks/load_test.py STUDENT"""

from __future__ import annotations

import io
import json
import os
import platform
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.load import compare
from benchmarks.load_table import to_json, to_markdown
from benchmarks.process import service_process
from pipelines.run.command_line import answer_mistakes
from pipelines.run.progress import progress_bar, say


@dataclass(frozen=True)
class LoadTestOptions:
    """Two services with the same student, the second with --max-batch 1, asked in turn by several clients."""

    student: Annotated[str, tyro.conf.Positional]
    """as for serve.py"""
    clients: tuple[int, ...] = (1, 8, 64)
    """clients at a time; each sends one image, and the next when it is answered"""
    seconds: float = 10.0
    """of one round of one number of clients and one service"""
    rounds: int = 3
    """of all; the services take turns"""
    replicas: int = 1
    """of each service"""
    max_batch: int = 32
    """images that the first service reads at a time"""
    num_images: int = 200
    """different rendered words to send"""
    output: Path = Path("runs/load_test")
    """folder for load_test.json and load_test.md"""

    def check(self) -> None:
        """Raises: ValueError naming the option."""
        for name in ("seconds", "rounds", "replicas", "max_batch", "num_images"):
            if getattr(self, name) <= 0:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected more than 0")
        if not self.clients or min(self.clients) < 1:
            raise ValueError(f"--clients is {self.clients}, expected numbers from 1 on")


def main() -> int:
    options = tyro.cli(LoadTestOptions, prog="load_test.py", description=LoadTestOptions.__doc__)
    options.check()
    options.output.mkdir(parents=True, exist_ok=True)
    images = rendered_words(options.num_images)
    with ExitStack() as running:
        services = {}
        for name, max_batch in (("batches", options.max_batch), ("one at a time", 1)):
            say(f"starting the service that reads {name}")
            words = [options.student, "--replicas", str(options.replicas), "--max-batch", str(max_batch)]
            services[name] = running.enter_context(service_process(words))
        load_before = os.getloadavg()[0]
        say(f"asking; the machine's load before it is {load_before:.1f} with {os.cpu_count()} CPUs")
        compare(services, images, [max(options.clients)], seconds=2, rounds=1, progress=lambda done, total: None)
        seen = compare(
            services, images, options.clients, options.seconds, options.rounds, progress_bar("asking the services")
        )
    about = {"cpus": os.cpu_count(), "load_before": load_before, "python": platform.python_version()}
    table = to_markdown(seen)
    (options.output / "load_test.json").write_text(
        json.dumps(to_json(seen, asdict(options), about), indent=2, default=str) + "\n"
    )
    (options.output / "load_test.md").write_text(table)
    print(table)
    return 0


def rendered_words(number: int) -> list[bytes]:
    """PNG files of words as ``make demo`` renders them, at their natural size."""
    import numpy as np
    from PIL import Image, ImageFont

    from kdltr_core.data.synth.fonts import fonts
    from kdltr_core.data.synth.vocabulary import draw_text
    from kdltr_core.data.synth.word_image import FONT_SIZE, draw_picture

    rng, faces, files = np.random.default_rng(0), fonts(), []
    for _ in range(number):
        face = ImageFont.truetype(faces[rng.integers(len(faces))], FONT_SIZE)
        file = io.BytesIO()
        Image.fromarray(draw_picture(draw_text(rng), face, rng)).save(file, "PNG")
        files.append(file.getvalue())
    return files


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
