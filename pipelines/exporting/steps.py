"""What export.py does with a student: write a graph, hold it against PyTorch, take its products to integers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kdltr_core.data.dataset import open_benchmarks
from kdltr_core.data.pack import Pack
from kdltr_core.inference.graph import ExportedReading
from kdltr_core.recognizers import Recognizer
from pipelines.exporting.options import ExportOptions
from pipelines.exporting.program import Read, open_program, write_program
from pipelines.exporting.same_reading import ReadsOtherwise, check_reading, compare_readings, gather_words
from pipelines.prediction.onnx_notes import describe_export
from pipelines.run.progress import progress_bar, say


def write_checked(
    file: Path, options: ExportOptions, student: Path, recognizer: Recognizer, packs: Mapping[str, Pack]
) -> dict[str, str]:
    """The graph in float32, read back and compared. Returns: what was found. Raises: ReadsOtherwise."""
    say(f"writing the graph of {student}")
    notes = describe_export(student, recognizer)
    reading = ExportedReading(recognizer)
    if options.format == "torch":
        write_program(file, reading, recognizer.image_size, notes)
        read, _ = open_program(file)
    else:
        from pipelines.exporting.onnx_export import write_onnx

        write_onnx(file, reading, recognizer.image_size, notes)
        read = _open_onnx(file)
    words = gather_words(packs, options.num_checked, recognizer.image_size)
    largest = check_reading(read, recognizer, words.pixels, file.name, progress_bar("checking"))
    say(f"{len(words.labels)} words of {', '.join(packs)} are read as PyTorch reads them, to {largest:.1g}")
    return {"checked_words": str(len(words.labels)), "largest_difference": f"{largest:.2g}"}


def quantise(file: Path, options: ExportOptions, recognizer: Recognizer, packs: Mapping[str, Pack]) -> dict[str, str]:
    """The file with products in integers. Returns: what it costs. Raises: ReadsOtherwise if that is too much."""
    from pipelines.exporting.onnx_int8 import write_int8

    rendered = open_benchmarks(options.rendered(), progress=progress_bar("rendering words"))
    seen = gather_words(rendered, options.rendered().num_rendered_benchmark, recognizer.image_size)
    words = gather_words(packs, options.num_words, recognizer.image_size)
    smaller = file.with_suffix(".int8.onnx")
    write_int8(smaller, file, seen.pixels)
    readers = _open_onnx(file), _open_onnx(smaller)
    cost = compare_readings(*readers, words, recognizer.charset, options.protocol, progress_bar("comparing"))
    if cost.lost > options.max_loss:
        raise ReadsOtherwise(
            f"{file.name} was not kept: int8 gives {cost.describe()}, and at most {options.max_loss:g} points may be "
            "lost; give --max-loss, or leave --quantise out"
        )
    say(f"int8: {cost.describe()}; {file.stat().st_size / smaller.stat().st_size:.1f} times smaller")
    os.replace(smaller, file)
    return {"int8_cost": cost.describe()}


def _open_onnx(file: Path) -> Read:
    from pipelines.prediction.onnx_reader import OnnxReader

    return OnnxReader(file).run
