"""The benchmark table of finished students: python pipelines/evaluate.py CHECKPOINT… [--data.benchmark-roots ROOT…]

With --report FOLDER also one page with harm, mistakes, calibration and pictures.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import tyro

from kdltr_core.config import RunConfig
from kdltr_core.remote import is_uri
from pipelines.report.options import EvaluateOptions
from pipelines.run.command_line import absolute, answer_mistakes


def main() -> int:
    options = tyro.cli(EvaluateOptions, description=EvaluateOptions.__doc__)
    options.check()

    # Not at the top: torch takes seconds, which --help and a mistyped option need not wait for.
    import torch

    from kdltr_core.data.images import native_sizes
    from kdltr_core.data.roots import benchmark_folders, open_benchmarks
    from kdltr_core.distributed import DistributedContext
    from kdltr_core.evaluation.benchmarks import open_readers, read_benchmarks
    from kdltr_core.evaluation.table import check_judged
    from pipelines.prediction.onnx_columns import open_onnx_columns
    from pipelines.prediction.open_reader import is_onnx
    from pipelines.prediction.two_stage import two_stage_column
    from pipelines.report.build import report, workload
    from pipelines.report.summary import write_evaluation
    from pipelines.run.progress import progress_bar, say

    world = DistributedContext.current()
    changes = {f"data.{name}": value for name, value in asdict(options.data).items()}
    run = RunConfig().override(changes)
    if options.report:
        run = absolute(run.override({"tracking_uri": options.tracking_uri, "experiment": options.experiment}))
        options = replace(options, tracking_uri=run.tracking_uri)
    threads, cache_folder = torch.get_num_threads(), run.data.cache_folder
    readers = open_readers(
        [place for place in options.checkpoints if not is_onnx(place)],
        world.device,
        with_teacher=options.teacher,
        note=say,
        cache_folder=cache_folder,
    )
    exported = [place for place in options.checkpoints if is_onnx(place)]
    readers += open_onnx_columns(exported, options.batch_size, threads, cache_folder)
    for option, folder in (("--output-folder", options.output_folder), ("--report", options.report)):
        if folder:
            make_folder(folder, option)
    packs = open_benchmarks(run.data, progress=progress_bar("preparing words"))
    check_judged({name: pack.labels for name, pack in packs.items()}, options.protocol)
    for name, pack in packs.items():
        if not pack.report.is_clean:
            say(f"{name}: {pack.report.describe()}")
    if options.two_stage:
        folders = benchmark_folders(run.data)
        sizes = {name: native_sizes(folders[name], pack.keys) for name, pack in packs.items()}
        readers.append(two_stage_column(sizes, threads))
    if options.report:
        say(workload(options, readers, packs))
    table = read_benchmarks(
        readers,
        packs,
        batch_size=options.batch_size,
        protocol=options.protocol,
        world=world,
        progress=progress_bar("reading words"),
    )
    if options.output_folder:
        has_student = any(column.role == "student_low_res" for column in table.columns)
        write_evaluation(options.output_folder, table, packs, "student" if has_student else "teacher")
        say(f"table, predictions of every word and example words: {options.output_folder}")
    print(table.to_markdown(), flush=True)
    if options.report:
        report(options, readers, packs, run.data, table)
        say(f"the report: {Path(options.report) / 'report.html'}")
    return 0


def make_folder(path: str, option: str) -> None:
    """Before anything is read. Raises: ValueError if it cannot be written."""
    if is_uri(path):
        raise ValueError(f"{path} is a URI; give the {option} as a path of this machine")
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror}); give another {option}") from error


if __name__ == "__main__":
    sys.exit(answer_mistakes(main))
