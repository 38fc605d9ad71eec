"""What predict.py can be told."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kdltr_core.config import DataConfig
from kdltr_core.data.images import MAX_PIXELS
from kdltr_core.data.picture_folder import is_picture
from kdltr_core.inference.pretrained import DEFAULT_STUDENT, in_whole, pretrained
from kdltr_core.remote import is_uri

Format = Literal["auto", "table", "jsonl", "parquet"]

_SUFFIXES: dict[str, Format] = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "table"}


@dataclass(frozen=True)
class PredictOptions:
    """Read words in images: files, folders, LMDBs, or file names on standard input.

    The exit code is 0 if all could be read, and 1 if some were skipped, which are listed at the end.
    """

    words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[STUDENT] [IMAGE …]")] = ()
    """the student, where it is not the one that comes with the package: a pretrained model's name, a run folder, a
    student's folder or file, an ONNX file that export.py wrote, or a URI of one; then images: files; folders, whose
    images are read with those in the folders under them, by name; - : file names, one a line, on standard input"""
    lmdb: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """an LMDB of word images, or a folder of LMDBs; may be given several times. Of pairs the student reads low_res"""
    format: Format = "auto"
    """auto: as --output ends (.jsonl, .parquet, .txt), else a table on a terminal and JSON lines elsewhere"""
    output: str = ""
    """file to write, complete or not at all; with --ray a folder. Empty: standard output"""
    detect: bool = False
    """the images are whole pictures: RapidOCR's detector finds the words in each; needs pip install 'kdltr[detect]'"""
    teacher: bool = True
    """pictures of more than 18 rows are read by the student's teacher, where its file is at hand"""
    ray: bool = False
    """read with all CPUs (or GPUs) of a Ray cluster, into a folder of Parquet files that all its machines see; the same
    command again reads what has no row there yet. A skipped image is a row with its error"""
    block_size: int = 512
    """with --ray: images per Parquet file"""
    batch_size: int = 64
    """words read at a time"""
    threads: int = 0
    """threads that open images ahead; 0: one per CPU"""
    device: str = ""
    """cpu, cuda or cuda:1; empty: a GPU where there is one"""
    max_pixels: int = MAX_PIXELS
    """larger images are skipped; opening one takes up to 20 bytes a pixel in each thread"""
    cache_folder: str = DataConfig().cache_folder
    """where a student that a URI names is kept"""

    def check(self, on_terminal: bool) -> None:
        """Args: on_terminal: whether standard output is one. Raises: ValueError for what cannot be meant."""
        if not self.images and not self.lmdb:
            raise ValueError(
                "there is nothing to read; give image files, a folder, --lmdb DIR, or - for standard input"
            )
        for name, least in (("batch_size", 1), ("block_size", 1), ("max_pixels", 1), ("threads", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(self, name)}, expected {least} or more")
        for place in (*self.images, *self.lmdb, self.output):
            if is_uri(place):
                raise ValueError(f"{place} is a URI; give images and --output as paths of this machine")
        if self.ray:
            self._check_folder()
        elif self.output:
            self._check_file()
        elif self.resolved(on_terminal) == "parquet" and on_terminal:
            raise ValueError("Parquet is not for a terminal; give a file with --output words.parquet")

    def resolved(self, on_terminal: bool) -> Format:
        """The format, never auto."""
        if self.format != "auto":
            return self.format
        if self.output:
            return _SUFFIXES[Path(self.output).suffix.lower()]
        return "table" if on_terminal else "jsonl"

    @property
    def student(self) -> str:
        """A name, a URI or an absolute path."""
        return in_whole(self.words[0]) if self._names_student else DEFAULT_STUDENT

    @property
    def images(self) -> tuple[str, ...]:
        """Files, folders, or "-"."""
        return self.words[self._names_student :]

    @cached_property
    def _names_student(self) -> bool:
        """Whether the first word is a student: a model's name or URI, a run, weights, an ONNX file, or nothing at all.

        What is not there is taken for a misspelt student, unless it ends as images do.
        """
        if not self.words or self.words[0] == "-":
            return False
        path = Path(self.words[0]).expanduser()
        if is_uri(self.words[0]) or pretrained(self.words[0]) or path.suffix in (".onnx", ".safetensors"):
            return True
        if path.is_dir():
            return any(any(path.glob(pattern)) for pattern in ("config.yaml", "*.safetensors", "*/*.safetensors"))
        return not path.exists() and not is_picture(path.name)

    @property
    def num_threads(self) -> int:
        return self.threads or os.cpu_count() or 1

    def _check_folder(self) -> None:
        if not self.output:
            raise ValueError("--ray writes a folder of Parquet files; name it with --output FOLDER")
        if self.format not in ("auto", "parquet"):
            raise ValueError(f"--ray writes Parquet files, not {self.format}; leave --format out")
        if Path(self.output).exists() and not Path(self.output).is_dir():
            raise ValueError(f"{self.output} is a file, and --ray writes a folder; give another --output")

    def _check_file(self) -> None:
        path = Path(self.output).expanduser()
        if path.is_dir():
            raise ValueError(f"{self.output} is a folder; give --output a file in it, such as {path / 'words.jsonl'}")
        if path.exists() and not path.is_file():
            raise ValueError(f"{self.output} is not an ordinary file; leave --output out to write on standard output")
        if not path.absolute().parent.is_dir():
            raise ValueError(f"there is no folder {path.parent} for --output; make it, or give another")
        if self.format == "auto" and path.suffix.lower() not in _SUFFIXES:
            raise ValueError(
                f"--output is {self.output}, expected a name that ends in {', '.join(_SUFFIXES)}; or give --format too"
            )
