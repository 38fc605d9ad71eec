"""Whether a GPU computes what a CPU does, how fast, and that training with graphs learns as without.

python -m benchmarks.gpu_check --help

Asks for no network, Ray or MLflow. Every part is a process with a time limit of its own. Without a GPU the parts run at
tiny sizes, so that the script itself is known to work, and nothing is said of speed.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.degradation import KINDS, drawn_in_batch, standard_errors
from kdltr_core import capture
from kdltr_core.config import RecognizerName, RunConfig
from kdltr_core.data.batch import Batch
from kdltr_core.data.dataset import TrainingPairs, load_datasets
from kdltr_core.data.device_cache import DeviceCache, has_room
from kdltr_core.data.images import as_float
from kdltr_core.data.loader import on_device, training_batches
from kdltr_core.data.pack import build_pack
from kdltr_core.data.sampler import EpochSampler
from kdltr_core.data.synth.render import render_words
from kdltr_core.distributed import DistributedContext
from kdltr_core.inference.captured import LogitsReader
from kdltr_core.recognizers import build_student, build_teacher
from kdltr_core.recognizers.decoding import decode_predictions
from kdltr_core.train.build import BUNDLED_TEACHERS
from kdltr_core.train.engine import fit
from kdltr_core.train.step import TrainingStep

FAMILIES: tuple[RecognizerName, ...] = ("parseq_tiny", "parseq", "abinet", "matrn")
# Of ``published`` and ``mixed`` it is the speed alone that is looked at: they are made of the others.
DEGRADATIONS = (*KINDS, "published", "mixed")
# Images a second on one H100: of a training step with its data, and of reading.
TARGETS = {"parseq_tiny": 25_000, "parseq": 14_000, "abinet": 8_500, "matrn": 4_600, "reading parseq": 30_000}
# Seconds; all of them together are less than eight minutes.
LIMITS = {"terms": 70, "captured": 95, "degradation": 45, "reading": 40, "speed": 160, "learning": 70}
# Largest relative difference that rounding explains: of a term, and of the length of the difference of the gradients.
TERM_TOLERANCE, GRADIENT_TOLERANCE = 1e-3, 2e-2
# Of the statistics of degraded pictures, in standard errors; and of the share of values that rounding changes.
DISTRIBUTION_TOLERANCE, ROUNDED_OTHERWISE = 5.0, 0.02


@dataclass(frozen=True)
class CheckConfig:
    """What is checked, and at which size."""

    families: tuple[RecognizerName, ...] = FAMILIES if torch.cuda.is_available() else ("parseq_tiny",)
    """whose step is checked and measured"""
    parts: tuple[str, ...] = tuple(LIMITS)
    """terms: loss and gradients as on the CPU; captured: the captured step is the eager one;
    degradation: in batch on the device it has the CPU's distribution, and how fast it is; reading: captured reading
    gives the eager one's texts; speed: the table; learning: a training with and without graphs"""
    batch_size: int = 256 if torch.cuda.is_available() else 4
    """of the table; the checks are on fewer words"""
    num_steps: int = 20 if torch.cuda.is_available() else 2
    """of every check, and measured"""
    num_learning_steps: int = 150 if torch.cuda.is_available() else 2
    """of each training"""
    output: Path = Path("runs/gpu_check")
    """folder for gpu_check.json and gpu_check.md"""


def main(config: CheckConfig) -> int:
    if unknown := set(config.parts) - LIMITS.keys():
        raise ValueError(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(LIMITS)}")
    config.output.mkdir(parents=True, exist_ok=True)
    found = {}
    with tempfile.TemporaryDirectory(prefix="kdltr-gpu-") as scratch:
        render_words(Path(scratch) / "words", max(64, 4 * config.batch_size), seed=0)
        build_pack(Path(scratch) / "words", cache_folder=Path(scratch) / "packs", degradation="interlaced")
        for part in config.parts:
            found[part] = _in_a_process(part, config, Path(scratch))
            (config.output / "gpu_check.json").write_text(json.dumps(found, indent=2) + "\n")
            (config.output / "gpu_check.md").write_text(markdown(found))
    print(markdown(found))
    return int(any(not result["ok"] for result in found.values()))


def _in_a_process(part: str, config: CheckConfig, scratch: Path) -> dict[str, Any]:
    file, start = scratch / f"{part}.json", time.monotonic()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(part, config, scratch, file))
    process.start()
    process.join(LIMITS[part])
    problem = f"not done after {LIMITS[part]} s" if process.is_alive() else f"ended with code {process.exitcode}"
    process.kill()
    process.join()
    rows = json.loads(file.read_text()) if file.is_file() else []
    ok = problem.endswith("code 0") and all(row.get("ok", True) for row in rows)
    return {"ok": ok, "seconds": round(time.monotonic() - start, 1), "ended": problem, "rows": rows}


def _run(part: str, config: CheckConfig, scratch: Path, file: Path) -> None:
    rows: list[dict[str, Any]] = []
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    names: Sequence[Any] = {"learning": ("parseq_tiny",), "degradation": DEGRADATIONS}.get(part, config.families)
    make = {"terms": _terms, "captured": _captured, "reading": _reading, "speed": _speed, "learning": _learning,
        "degradation": _degradation}[part]  # fmt: skip
    for name in names:
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            try:
                row = make(name, config, scratch)
            except Exception:  # one family's failure does not hide the others
                row = {"ok": False, "error": traceback.format_exc()}
        told = [str(warning.message) for warning in given if "graph" in str(warning.message)]
        rows.append({"of": name, **row, **({"warnings": told} if told else {})})
        file.write_text(json.dumps(rows))
        torch.cuda.empty_cache()


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def _without_graphs() -> Iterator[None]:
    """Everything kernel by kernel, and nothing compiled."""
    before = dict(capture.RECORDERS)
    capture.RECORDERS.clear()
    try:
        yield
    finally:
        capture.RECORDERS.update(before)


class _Words:
    """A family's step, with random teachers but for the bundled one, and the batches that it is given."""

    def __init__(
        self, name: RecognizerName, scratch: Path, device: torch.device, batch_size: int, **values: Any
    ) -> None:
        pack = build_pack(scratch / "words", cache_folder=scratch / "packs", degradation="interlaced")
        self.pairs = TrainingPairs([pack], np.arange(len(pack)), "none")
        self.batch_size, self.device = batch_size, device
        file = scratch / f"{name}.pt"
        if name not in BUNDLED_TEACHERS and not file.is_file():
            torch.manual_seed(0)
            torch.save(build_teacher(name).state_dict(), file)
        teacher = "bundled" if name in BUNDLED_TEACHERS else str(file)
        named = {"recognizer.name": name, "recognizer.teacher_weights": teacher, "optim.batch_size": batch_size}
        self.config = RunConfig().override(named | {key.replace("__", "."): value for key, value in values.items()})
        self.step = TrainingStep(self.config, self.pairs, DistributedContext(device=device), [0])

    def batches(self, with_fixed_shapes: bool) -> Iterator[Batch]:
        student = self.step.distiller.student
        sampler = EpochSampler(len(self.pairs), self.batch_size, 0)
        fits = has_room(len(self.pairs), self.device)
        resident = DeviceCache(self.pairs, self.device) if fits else None
        made = training_batches(
            self.pairs, sampler, student.charset, seed=0, num_steps=10**6, pixels="none" if fits else "degraded",
            num_output_steps=student.fixed_num_steps, with_fixed_shapes=with_fixed_shapes,
        )  # fmt: skip
        return (batch for _, batch in on_device(made, self.device, resident))

    def terms(self) -> dict[str, float]:
        """Of the steps since they were last asked for."""
        return self.step.meters.take()[0]


def _terms(name: RecognizerName, config: CheckConfig, scratch: Path) -> dict[str, Any]:
    """In float32 and without what is random, which the two draw differently."""
    sides = []
    with _without_graphs():
        for device in (torch.device("cpu"), _device()):
            words = _Words(name, scratch, device, 4, optim__precision="float32")
            words.step.distiller.student.eval()
            words.step.run(0, [next(iter(words.batches(True)))], 0.0, None)
            sides.append((words.terms(), words.step.gradients.joined.cpu()))
    (expected, gradient), (actual, other) = sides
    names = [term for term in expected if term not in ("images_per_second", "skipped_steps")]
    worst = max(abs(actual[term] - expected[term]) / max(abs(expected[term]), 1e-3) for term in names)
    apart = float((other - gradient).norm() / gradient.norm())
    ok = worst < TERM_TOLERANCE and apart < GRADIENT_TOLERANCE
    return {"ok": ok, "largest difference of a term": worst, "of the gradients": apart, "terms": len(names)}


def _captured(name: RecognizerName, config: CheckConfig, scratch: Path) -> dict[str, Any]:
    """The same steps with the same dropout, kernel by kernel and as graphs, in float32 and nothing compiled."""
    curves = []
    for plain in (True, False):
        with _without_graphs() if plain else nullcontext():
            words = _Words(name, scratch, _device(), min(64, config.batch_size), optim__precision="float32")
        losses = []
        for number, batch in zip(range(config.num_steps), words.batches(True), strict=False):
            words.step.run(number, [batch], 1.0, None)
            losses.append(words.terms()["loss"])
        curves.append(losses)
    apart = float(np.abs(np.subtract(curves[0], curves[1])).max() / np.abs(curves[0]).max())
    return {"ok": apart < 2e-3, "largest difference of the loss": apart, "steps": config.num_steps}


def _degradation(kind: str, config: CheckConfig, scratch: Path) -> dict[str, Any]:
    pack, device = build_pack(scratch / "words", cache_folder=scratch / "packs", degradation="interlaced"), _device()
    pairs = pack.gather(np.arange(min(len(pack), 4 * config.batch_size)))
    on_device = [side.to(device) for side in pairs]
    row: dict[str, Any] = {"images": len(pairs[0])}
    if kind in KINDS:
        errors = standard_errors(kind, *pairs, device)
        farthest = max(errors, key=lambda name: abs(errors[name]))
        one, other = (drawn_in_batch(kind, *(side[:32] for side in sides)).cpu() for sides in (pairs, on_device))
        apart = float((one != other).float().mean())
        ok = abs(errors[farthest]) < DISTRIBUTION_TOLERANCE and apart < ROUNDED_OTHERWISE
        row |= {"ok": ok, farthest: f"{errors[farthest]:.1f} standard errors off", "values rounded otherwise": apart}
    if device.type == "cuda":
        for timed in (False, True):
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(config.num_steps):
                drawn_in_batch(kind, *on_device)
            torch.cuda.synchronize()
            if timed:
                row["images/s"] = round(config.num_steps * len(pairs[0]) / (time.perf_counter() - start))
    return row


def _reading(name: RecognizerName, config: CheckConfig, scratch: Path) -> dict[str, Any]:
    words = _Words(name, scratch, _device(), 4)
    teacher = words.step.teacher
    assert teacher is not None
    high_res = words.pairs.gather(np.arange(min(256, 16 * config.batch_size)))[0].to(_device())
    read, texts = LogitsReader(teacher, _device()), []
    for _ in range(capture.CALLS_BEFORE_CAPTURE + 2):
        texts.append(decode_predictions(read(high_res), teacher.charset))
    with torch.inference_mode():
        expected = decode_predictions(teacher(as_float(high_res)).logits, teacher.charset)
    differing = sum(one != other for found in (texts[0], texts[-1]) for one, other in zip(found, expected, strict=True))
    return {"ok": differing == 0, "words": len(expected), "read differently": differing}


def _speed(name: RecognizerName, config: CheckConfig, scratch: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"batch": config.batch_size, "target": TARGETS.get(name)}
    if _device().type != "cuda":
        row["note"] = "no GPU: device-busy time, kernels, memory and speed are not measured"
    for way in ("plain", "graphs"):
        start = time.perf_counter()
        with _without_graphs() if way == "plain" else nullcontext():
            words = _Words(name, scratch, _device(), config.batch_size)
            words.step.begin()
            batches, numbers = words.batches(True), count()

            def go(times: int, words: _Words = words, batches: Any = batches, numbers: Any = numbers) -> None:
                for _ in range(times):
                    words.step.run(next(numbers), [next(batches)], 1.0, None)
                words.terms()  # waits for the device

            go(1)
            first = time.perf_counter() - start
            go(3 * capture.CALLS_BEFORE_CAPTURE if _device().type == "cuda" else 1)
            row[way] = {"seconds to the first step": round(first, 1), **_measured(go, config)}
    if "images/s" in row["graphs"]:
        row["ratio"] = round(row["graphs"]["images/s"] / row["plain"]["images/s"], 2)
    if name == "parseq":
        row["reading, batch 512"] = _reading_speed(name, config)
    return row


def _measured(go: Callable[[int], None], config: CheckConfig) -> dict[str, float]:
    if _device().type != "cuda":
        go(config.num_steps)
        return {}
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    go(config.num_steps)
    seconds = (time.perf_counter() - start) / config.num_steps
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        go(3)
    kernels = [event for event in profiler.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    return {
        "images/s": round(config.batch_size / seconds),
        "ms a step": round(1e3 * seconds, 2),
        "device busy, ms": round(sum(event.device_time for event in kernels) / 3e3, 2),
        "kernels a step": round(len(kernels) / 3),
        "memory, GiB": round(torch.cuda.max_memory_allocated() / 2**30, 2),
    }


def _reading_speed(name: RecognizerName, config: CheckConfig) -> dict[str, Any]:
    found: dict[str, Any] = {"target": TARGETS["reading parseq"]}
    num = 512 if _device().type == "cuda" else 8
    pixels = torch.randint(0, 256, (num, 3, 16, 64), dtype=torch.uint8, device=_device())
    torch.manual_seed(0)
    student = build_student(name).to(_device()).eval()
    for way in ("plain", "graphs"):
        with _without_graphs() if way == "plain" else nullcontext():
            read = LogitsReader(student, _device(), "auto")
        for timed in (False, True):
            start = time.perf_counter()
            for _ in range(2 * capture.CALLS_BEFORE_CAPTURE):
                read(pixels).cpu()
            if timed and _device().type == "cuda":
                found[way] = round(2 * capture.CALLS_BEFORE_CAPTURE * num / (time.perf_counter() - start))
    return found


def _learning(name: RecognizerName, config: CheckConfig, scratch: Path) -> dict[str, Any]:
    """Mean losses of tenths of a training of PARSeq-tiny, and its accuracy on held-out words."""
    size = min(64, config.batch_size)
    settings = {
        "recognizer.name": name, "optim.batch_size": size, "num_steps": config.num_learning_steps, "log_every": 1,
        "optim.learning_rate": 1e-4, "data.train_degradation": "none", "data.train_roots": (str(scratch / "words"),),
        "data.benchmark_roots": (str(scratch / "words"),), "data.cache_folder": str(scratch / "cache"),
        "validate_every": 10**6, "checkpoint_every": 10**6,
    }  # fmt: skip
    run, last = RunConfig().override(settings), list[float]()
    curves: dict[str, Any] = {}
    words = load_datasets(run.data, build_student(name).charset)
    for way in ("plain", "graphs"):
        losses: dict[int, float] = {}

        def record(step: int, values: Mapping[str, float], losses: dict[int, float] = losses) -> None:
            losses.update({step: values["train/loss"]} if "train/loss" in values else {})

        with _without_graphs() if way == "plain" else nullcontext():
            world = DistributedContext(device=_device())
            result = fit(run, words, run_folder=scratch / way, record=record, world=world)
        parts = np.array_split(np.array(list(losses.values())), min(10, len(losses)))
        curves[way] = {
            "loss": [round(float(part.mean()), 3) for part in parts],
            "accuracy": result.best_validation_accuracy,
        }
    last = [curves[way]["loss"][-1] for way in ("plain", "graphs")]
    return {"ok": abs(last[0] - last[1]) < 0.1 * abs(last[0]), **curves}


def markdown(found: Mapping[str, Any]) -> str:
    """One section a part, one line a family."""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: only the script itself is checked"
    lines = ["# GPU check", "", f"{where}, torch {torch.__version__}", ""]
    for part, result in found.items():
        lines += [f"## {part}: {'as it should be' if result['ok'] else 'NOT as it should be'}", ""]
        lines += [f"{result['ended']}, {result['seconds']} s", ""]
        for row in result["rows"]:
            values = {name: value for name, value in row.items() if name not in ("of", "ok")}
            mark = "" if row.get("ok", True) else " **FAILED**"
            lines.append(f"- {row['of']}{mark}: " + "; ".join(f"{name} {_told(v)}" for name, v in values.items()))
        lines.append("")
    return "\n".join(lines)


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_told(inner)}" for name, inner in value.items()) + ")"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(CheckConfig, description=__doc__)))
