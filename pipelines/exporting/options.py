"""What export.py can be told."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kdltr_core.config import DataConfig, RunConfig
from kdltr_core.inference.pretrained import pretrained
from pipelines.report.options import BenchmarkOptions

_RUN = RunConfig()


@dataclass(frozen=True)
class ExportOptions:
    """Write a student as one graph from pixels to text, checked word by word against PyTorch before it is kept."""

    student: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDENT")]
    """a pretrained model's name, run folder, student or teacher folder in it, .safetensors file, or a URI of one"""
    format: Literal["onnx", "mlflow"] = "onnx"
    """onnx: for ONNX Runtime; mlflow: a model in MLflow's registry that reads bytes"""
    quantise: Literal["none", "int8"] = "none"
    """int8: products in eight-bit integers; what it costs is measured on the benchmarks"""
    output: str = ""
    """file to write; empty: student.onnx or student-int8.onnx beside the student's weights, of a pretrained model
    NAME.onnx and so on, here"""
    data: BenchmarkOptions = field(default_factory=BenchmarkOptions)
    max_loss: float = 2.0
    """percentage points of word accuracy on the benchmarks that int8 may cost; a graph that costs more is not kept"""
    name: str = ""
    """name of the model in MLflow's registry; empty: kdltr- and the recognizer's"""
    tracking_uri: str = ""
    """MLflow server or database of the registry; empty: that of the run that made the student"""

    def check(self) -> None:
        """Raises: ValueError for what cannot be meant, or lacks a package."""
        if not self.student.strip():
            raise ValueError("expected the folder of a finished run, or a student.safetensors; --help says more")
        if self.output and self.format == "mlflow":
            raise ValueError(f"--output is {self.output}, but a registered model has no file: give its --name instead")
        if self.format != "mlflow" and (self.name or self.tracking_uri):
            raise ValueError("--name and --tracking-uri are for --format mlflow; leave them out, or give it")
        for package in ("onnx", "onnxruntime", "onnxscript"):
            if importlib.util.find_spec(package) is None:
                raise ValueError(f"exporting needs {package}: pip install 'kdltr[export]'")

    def place(self, student: Path) -> Path:
        """The file to write; of a model for MLflow the one inside it.

        Raises: ValueError if it does not end in .onnx or its folder is not there.
        """
        suffix = "-int8" if self.quantise == "int8" else ""
        beside = Path(self.student) if pretrained(self.student) else student.with_suffix("")
        place = Path(self.output or f"{beside}{suffix}.onnx").expanduser()
        if place.suffix != ".onnx":
            raise ValueError(f"--output is {self.output}, expected a file name that ends in .onnx")
        if not place.parent.is_dir():
            raise ValueError(f"there is no folder {place.parent}; make it, or give another --output")
        return place

    def benchmarks(self) -> DataConfig:
        return RunConfig().override({f"data.{name}": value for name, value in asdict(self.data).items()}).data

    def rendered(self) -> DataConfig:
        """The words by which the ranges of int8 are measured: drawn, so none of a benchmark."""
        return self.benchmarks().model_copy(update={"benchmark_roots": (), "num_rendered_benchmark": 256})
