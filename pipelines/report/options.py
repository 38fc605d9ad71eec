"""What evaluate.py can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from kdltr_core.charset import Protocol
from kdltr_core.config import DataConfig, DegradationName, RunConfig

_DATA, _RUN = DataConfig(), RunConfig()


@dataclass(frozen=True)
class BenchmarkOptions:
    """What the students are evaluated on."""

    benchmark_roots: tuple[str, ...] = ()
    """LMDB folders, folders of them, or their URIs, one set each; none: words are rendered"""
    benchmark_degradation: DegradationName = _DATA.benchmark_degradation
    """what makes low_res of single images worse, fixed for each image; paired sets have their own low_res"""
    max_rejected_fraction: float = _DATA.max_rejected_fraction
    """rejecting a larger fraction of a set is an error"""
    cache_folder: str = _DATA.cache_folder
    """where packs, rendered words and what is fetched are kept"""
    num_rendered_benchmark: int = _DATA.num_rendered_benchmark
    """pairs rendered where no root is given"""


@dataclass(frozen=True)
class EvaluateOptions:
    """Read benchmarks with finished students and teachers and, where its file is at hand, with a student's teacher."""

    checkpoints: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[STUDENT …]")] = ()
    """names of pretrained models, run folders, student or teacher folders in them, .safetensors files, ONNX files that
    export.py wrote, or URIs; each a column, a teacher two"""
    data: BenchmarkOptions = field(default_factory=BenchmarkOptions)
    protocol: Protocol = "36"
    """characters that count: 36 letters and digits, 62 with case, 94 with case and punctuation"""
    batch_size: int = 128
    """images read at a time"""
    teacher: bool = True
    """the two columns of the teacher that a student's config names, where its file is at hand"""
    two_stage: bool = False
    """a column of the two-stage baseline: low_res enlarged (bicubic), then read with RapidOCR's recognizer; needs
    pip install 'kdltr[detect]'"""
    output_folder: str = ""
    """where table.md, table.json, predictions.parquet and examples.png are written; empty: nowhere"""
    report: str = ""
    """where report.html (one page that needs nothing else), report.json and predictions.parquet are written:
    comparisons, harm, mistakes, calibration, pictures; empty: nowhere"""
    harm_words: int = 200
    """words of each cell of the report's harm matrix, by kind of text and of low resolution; 0: no matrix"""
    name: str = ""
    """title of the report, and name of its run in MLflow; empty: after the runs that are evaluated"""
    tracking_uri: str = _RUN.tracking_uri
    """MLflow server or database that is given the report; empty: none"""
    experiment: str = _RUN.experiment
    """MLflow experiment"""

    def check(self) -> None:
        """Raises: ValueError for what cannot be meant."""
        if not self.checkpoints:
            raise ValueError(
                "expected the folder of a finished run, a student.safetensors, or an ONNX file of it; --help says more"
            )
        if self.batch_size < 1:
            raise ValueError(f"--batch-size is {self.batch_size}, expected at least 1")
        if self.harm_words < 0:
            raise ValueError(f"--harm-words is {self.harm_words}, expected 0 or more")
