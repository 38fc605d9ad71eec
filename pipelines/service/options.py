"""Options of serve.py: what is served, by how many replicas, and how much a request may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Annotated

import tyro

from kdltr_core.inference.pretrained import DEFAULT_STUDENT


@dataclass(frozen=True)
class ServiceLimits:
    """What a service takes, so that no request harms the others."""

    body_megabytes: float = 8.0
    """largest request, in MB"""
    images_per_request: int = 64
    """images per request, at most"""
    megapixels: float = 32.0
    """largest image; a larger one is refused by its header, before it is decoded"""
    seconds_to_read: float = 30.0
    """seconds to receive a request and read its images, waiting included"""
    requests_at_once: int = 128
    """requests answered at the same time; further ones get 503 with Retry-After"""

    @property
    def body_bytes(self) -> int:
        return int(self.body_megabytes * 2**20)

    @property
    def pixels(self) -> int:
        return int(self.megapixels * 1e6)


@dataclass(frozen=True)
class ServeOptions:
    """Read words in images that come over HTTP, with replicas that Ray Serve keeps alive; GET / is a page to try it."""

    student: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[STUDENT]")] = DEFAULT_STUDENT
    """a pretrained model's name, a run folder, a student's folder or file, an ONNX file that export.py wrote, or a URI
    of one"""
    teacher: bool = True
    """pictures of more than 18 rows are read by the student's teacher, where its file is at hand"""
    detect: bool = False
    """the images are whole pictures: RapidOCR's detector finds the words in each; needs pip install 'kdltr[detect]'"""
    host: str = "127.0.0.1"
    """address to listen at; 0.0.0.0: every address of this machine"""
    port: int = 8000
    """port to listen at; 0: any that is free"""
    token: str = ""
    """token that requests must send; the variable KDLTR_TOKEN sets it unseen by other users of the machine"""
    replicas: int = 1
    """number of replicas"""
    cpus_per_replica: float = 1.0
    """CPUs, and threads of torch, per replica"""
    gpus_per_replica: float = 0.0
    """GPUs per replica; 0.25: four replicas on one GPU"""
    max_batch: int = 32
    """images read at a time"""
    limits: ServiceLimits = field(default_factory=ServiceLimits)
    """limits of a request"""

    def check(self) -> None:
        """Raises: ValueError naming the option, or the package that is missing."""
        for package in ("fastapi", "uvicorn", "python_multipart"):
            if find_spec(package) is None:
                raise ValueError(f"serving needs {package}: pip install 'kdltr[serve]'")
        if self.detect and find_spec("rapidocr") is None:
            raise ValueError("--detect needs RapidOCR's detector: pip install 'kdltr[detect]'")
        may_be_0 = ("port", "gpus_per_replica")
        for prefix, options in (("", vars(self)), ("limits.", vars(self.limits))):
            for name, value in options.items():
                if type(value) in (int, float) and not (value >= 0 if name in may_be_0 else value > 0):
                    expected = "0 or more" if name in may_be_0 else "more than 0"
                    raise ValueError(f"--{prefix}{name.replace('_', '-')} is {value}, expected {expected}")
        if self.gpus_per_replica and self.student.endswith(".onnx"):
            raise ValueError(f"{self.student} is read on the CPU; leave out --gpus-per-replica, or give a run")
        if not (self.token.isascii() and self.token.isprintable() and self.token == self.token.strip()):
            raise ValueError("--token has characters that a header cannot carry; give letters, digits and punctuation")
