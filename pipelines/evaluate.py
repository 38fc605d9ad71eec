"""The benchmark table of finished students: python pipelines/evaluate.py CHECKPOINT… [--data.benchmark-roots ROOT…]"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from kdltr_core.charset import Protocol
from kdltr_core.config import DataConfig, DegradationName, RunConfig
from kdltr_core.uri import is_uri
from pipelines.command_line import answer_mistakes

_DATA = DataConfig()


@dataclass(frozen=True)
class BenchmarkOptions:
    """What the students are read on."""

    benchmark_roots: tuple[str, ...] = ()
    """LMDB folders, folders of them, or their URIs, one set each; none: words are rendered"""
    benchmark_degradation: DegradationName = _DATA.benchmark_degradation
    """what makes low_res of single images worse, fixed for each image; paired sets have their own low_res"""
    max_label_length: int = _DATA.max_label_length
    """samples with longer labels are dropped and reported"""
    max_dropped_share: float = _DATA.max_dropped_share
    """dropping a larger share of a set is an error"""
    cache_folder: str = _DATA.cache_folder
    """where packs, rendered words and what is fetched are kept"""
    num_rendered_benchmark: int = _DATA.num_rendered_benchmark
    """pairs rendered where no root is given"""
    render_seed: int = _DATA.render_seed
    """seed of the rendered words"""


@dataclass(frozen=True)
class EvaluateOptions:
    """Read benchmarks with finished students and teachers and, where its file is at hand, with a student's teacher."""

    checkpoints: Annotated[tuple[str, ...], tyro.conf.Positional]
    """run folders, student or teacher folders in them, .safetensors files, or URIs; each a column, a teacher two"""
    data: BenchmarkOptions = field(default_factory=BenchmarkOptions)
    protocol: Protocol = "36"
    """characters that count: 36 letters and digits, 62 with case, 94 with case and punctuation"""
    batch_size: int = 128
    """images read at a time"""
    teacher: bool = True
    """the two columns of the teacher that a student's config names, where its file is at hand"""
    output_folder: str = ""
    """where table.md, table.json, predictions.parquet and examples.png are written; empty: nowhere"""
    curves: bool = False
    """also blur low_res and add noise to it, strength by strength: curves.png and curves.json in the output folder"""


def main() -> int:
    options = tyro.cli(EvaluateOptions, prog="evaluate.py", description=EvaluateOptions.__doc__)
    if not options.checkpoints:
        raise ValueError("expected the folder of a finished run, or a student.safetensors; --help says more")
    if options.batch_size < 1:
        raise ValueError(f"--batch-size is {options.batch_size}, expected at least 1")

    if options.curves and not options.output_folder:
        raise ValueError("--curves are a picture and a file of figures: give the --output-folder they go to")

    # Not at the top: torch takes seconds, which --help and a mistyped option need not wait for.
    from kdltr_core.data.words import open_benchmarks
    from kdltr_core.evaluation import open_readers, read_benchmarks, write_evaluation
    from kdltr_core.robustness import measure_robustness
    from kdltr_core.world import World
    from pipelines.progress import progress_bar, say

    world = World.current()
    config = RunConfig().override({f"data.{name}": value for name, value in asdict(options.data).items()}).data
    readers = open_readers(
        options.checkpoints, world.device, with_teacher=options.teacher, note=say, cache_folder=config.cache_folder
    )
    if options.output_folder:
        make_folder(options.output_folder)
    packs = open_benchmarks(config, progress=progress_bar("preparing words"))
    for name, pack in packs.items():
        if pack.report.num_dropped:
            say(f"{name}: {pack.report.describe()}")
    table = read_benchmarks(
        readers,
        packs,
        batch_size=options.batch_size,
        protocol=options.protocol,
        world=world,
        progress=progress_bar("reading words"),
    )
    print(table.to_markdown())
    if options.output_folder:
        write_evaluation(options.output_folder, table, packs)
        say(f"table, readings of every word and example words: {options.output_folder}")
    if options.curves:
        curves = measure_robustness(
            readers, packs, batch_size=options.batch_size, protocol=options.protocol, progress=progress_bar("curves")
        )
        curves.write(options.output_folder)
    return 0


def make_folder(path: str) -> None:
    """Before anything is read. Raises: ValueError if it cannot be written."""
    if is_uri(path):
        raise ValueError(f"{path} is a URI; give the --output-folder as a path of this machine")
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}); give another --output-folder") from error


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
