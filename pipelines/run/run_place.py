"""Where a run's files go, as its workers see it: a folder that all nodes share, or an object store."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from pathlib import Path

from kdltr_core.config import RunConfig
from kdltr_core.distributed import DistributedContext
from kdltr_core.files import write_text
from kdltr_core.inference.weights_files import FILES
from kdltr_core.recognizers.weights import read_metadata
from kdltr_core.remote import is_uri
from pipelines.run.folder import REFUSAL_FILE
from pipelines.run.metrics_log import MetricsLog
from pipelines.run.storage import JOURNAL, Mirror


class RunPlace:
    """A folder that all nodes share: what is written there is there, so most moments of a run ask for nothing.

    Attributes:
        path: the folder to work in.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_refused(self) -> bool:
        """Whether a worker has said why it does not go on."""
        return (self.path / REFUSAL_FILE).exists()

    def refuse(self, reason: str) -> None:
        write_text(self.path / REFUSAL_FILE, reason)

    def open_metrics_log(self) -> MetricsLog:
        """For the first worker, before ``begin``."""
        return MetricsLog(self.path / JOURNAL)

    def begin(self, world: DistributedContext) -> None:
        """On every worker, before ``fit`` looks for a checkpoint."""

    def recorded(self) -> None:
        """On the first worker, when something was written into the metrics log."""

    def written(self, folder: Path) -> None:
        """On the first worker, with every folder that ``fit`` wrote: a checkpoint, or the best recognizer so far."""

    def trained(self, world: DistributedContext) -> None:
        """On every worker, after ``fit``: when it returns, each finds the recognizer under ``path``."""

    def finished(self, world: DistributedContext) -> None:
        """On every worker, when all is written; ``path`` is not looked at afterwards."""


class StoredPlace(RunPlace):
    """A run folder in an object store, and a copy of it that the workers of a node share.

    Every method but ``written`` and ``recorded`` raises as ``ObjectStore`` does.

    Raises: ValueError for a URI that cannot be read.
    """

    def __init__(self, uri: str, config: RunConfig) -> None:
        key = hashlib.blake2b(uri.encode(), digest_size=8).hexdigest()
        super().__init__(Path(config.data.cache_folder).expanduser() / "runs" / key)
        self.path.mkdir(parents=True, exist_ok=True)
        self._mirror = Mirror(uri, self.path)
        self._trained = config.recognizer.trained
        self._is_better = False

    @property
    def is_refused(self) -> bool:
        return self._mirror.store.file(REFUSAL_FILE) is not None

    def refuse(self, reason: str) -> None:
        super().refuse(reason)
        self._mirror.push(REFUSAL_FILE)

    def open_metrics_log(self) -> MetricsLog:
        # What an earlier group wrote here and could not send is trained again.
        (self.path / JOURNAL).unlink(missing_ok=True)
        self._mirror.pull(JOURNAL)
        return super().open_metrics_log()

    def begin(self, world: DistributedContext) -> None:
        """Raises: RuntimeError if a checkpoint came between the looks of two workers; a new group finds the same."""
        step = self._mirror.pull_newest_checkpoint()
        if world.is_main:
            shutil.rmtree(self.path / self._trained, ignore_errors=True)
            self._mirror.pull(f"{self._trained}/*")
        steps = world.gather(step)
        if len(set(steps)) > 1:
            raise RuntimeError(f"the newest whole checkpoint in {self._mirror.store.uri} is not one for all: {steps}")

    def recorded(self) -> None:
        self._mirror.push_journal()

    def written(self, folder: Path) -> None:
        if folder.name == self._trained:
            self._is_better = True
            return
        try:
            self._send()
        except (OSError, ValueError) as error:
            warnings.warn(f"{error}; training goes on and this is sent with the next checkpoint", stacklevel=2)

    def trained(self, world: DistributedContext) -> None:
        if world.is_main:
            self._send()
        world.barrier()
        if not world.is_main:
            self._mirror.pull(f"{self._trained}/*")

    def finished(self, world: DistributedContext) -> None:
        if world.is_main:
            self._mirror.push("evaluation")
            self._mirror.push_journal(now=True)
        world.barrier()
        shutil.rmtree(self.path, ignore_errors=True)

    def _send(self) -> None:
        """What a run goes on from, the checkpoints last: none is in the store without what it was written after."""
        self._mirror.push_journal(now=True)
        if self._is_better:
            self._mirror.push(self._trained)
            self._is_better = False
        best = read_metadata(self.path / self._trained / FILES[self._trained])
        self._mirror.push_checkpoints(int(best["step"]))


def run_place(place: str, config: RunConfig) -> RunPlace:
    """Of a path or a URI. Raises: as ``StoredPlace``."""
    return StoredPlace(place, config) if is_uri(place) else RunPlace(Path(place))
