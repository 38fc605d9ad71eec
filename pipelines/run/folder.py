"""The folder of a run: whose it is, how far it came, and whether another config may go on in it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from kdltr_core.config import RunConfig, fields_marked
from kdltr_core.files import DamagedFile, read_json, write_text
from kdltr_core.remote import is_uri, under
from pipelines.run.description import noted
from pipelines.run.storage import CHECKPOINTS, METRICS_FILE, Storage

if TYPE_CHECKING:
    from pipelines.run.tracking import Status, Tracker

# Where a worker says why it does not go on.
REFUSAL_FILE = "refused.txt"
FINISHED_FILE = "finished.json"
TRACKING_FILE = "tracking.json"
# What the words of the run are recognised by.
DATA_FILE = "data.json"
# What is in a folder from its beginning, and what it is then the folder of.
KINDS = {CHECKPOINTS: "training run", "sweep.json": "sweep", "comparison.json": "comparison"}
SECONDS_BETWEEN_PULLS = 5.0


class RunFolder:
    """``output_folder/name``: config.yaml, checkpoints/, student/, evaluation/, metrics.jsonl.

    Attributes:
        storage: where the run is; in a bucket, with this process's own copy of what a driver needs of it.

    Raises: ValueError if the name is no folder name, or if the folder holds a run that another config began, or
        something else than a run.
    """

    mark: ClassVar[str] = CHECKPOINTS
    free_fields: ClassVar[frozenset[str]] = fields_marked("free")

    def __init__(self, config: RunConfig) -> None:
        if config.name in (".", "..") or not config.name.strip() or {"/", "\\", "\n"} & set(config.name):
            raise ValueError(f"the name {config.name!r} is not a folder name; give --name something like 'first-try'")
        self.config = config
        if is_uri(config.output_folder):
            self._copy = tempfile.TemporaryDirectory(prefix="kdltr-run-")  # removed with this object
            self.storage = Storage(under(config.output_folder, config.name), Path(self._copy.name))
            self.storage.pull("config.yaml", DATA_FILE, FINISHED_FILE, TRACKING_FILE, METRICS_FILE, "evaluation")
        else:
            self.storage = Storage(str(Path(config.output_folder) / config.name), Path())
        self._next_pull = 0.0
        for mark, kind in KINDS.items():
            if mark != self.mark and (self.path / mark).exists():
                raise ValueError(f"{self.named()} holds a {kind}; give the {KINDS[self.mark]} another --name")
        self._refuse(self._changes())

    @property
    def path(self) -> Path:
        """Where the files are worked on."""
        return self.storage.path

    def named(self, name: str = "") -> str:
        """What the folder, or a file in it, is called, for people."""
        return self.storage.named(name)

    @property
    def has_begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return bool(self.storage.steps())

    @property
    def is_finished(self) -> bool:
        """Whether this very run, with as many steps, has been trained and read to its end."""
        with suppress(OSError, DamagedFile):
            done = read_json(self.path / FINISHED_FILE, dict[str, Any], "") == self._extent()
            return done and self.table.exists()
        return False

    @property
    def table(self) -> Path:
        return self.path / "evaluation" / "table.md"

    @property
    def verdict(self) -> str:
        """The table and, of a student beside its teacher, the harm matrix."""
        files = (self.table, self.table.with_name("harm.md"))
        return "\n".join(file.read_text(encoding="utf-8") for file in files if file.exists())

    @property
    def summary(self) -> str:
        """What the run came to, in Markdown; '' in a folder that an earlier version wrote."""
        file = self.path / "evaluation" / "summary.md"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    @property
    def model(self) -> Path:
        """The folder of what was trained."""
        return self.path / self.config.recognizer.trained

    @property
    def metrics_log(self) -> Path:
        return self.path / METRICS_FILE

    @property
    def artifacts(self) -> list[Path]:
        """What the tracking server is given beside figures."""
        return [self.path / "config.yaml", self.path / "evaluation", self.metrics_log]

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Holds the folder while a run writes in it, and writes the config there.

        Raises: as ``Storage.claim``; ValueError if it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{self.path} cannot be made ({error.strerror}); give another --output-folder") from error
        try:
            with self.storage.claim():
                if self._changes():
                    self.storage.remove(METRICS_FILE, TRACKING_FILE, DATA_FILE)
                self.storage.remove(FINISHED_FILE, REFUSAL_FILE)
                write_text(self.path / "config.yaml", self.config.to_yaml())
                self.storage.push("config.yaml")
                yield
        except PermissionError as error:
            raise ValueError(f"{self.path} cannot be written ({error}); give another --output-folder") from error

    def claim_data(self, fingerprints: dict[str, str]) -> None:
        """Notes what the words are recognised by. Raises: ValueError if the run was begun with other words."""
        earlier: dict[str, str] = {}
        if self.has_begun:
            with suppress(OSError, DamagedFile):
                earlier = read_json(self.path / DATA_FILE, dict[str, str], "")
        now = {name: fingerprints.get(name, "not there") for name in earlier}
        self._refuse([f"{n} of fingerprint {was}, now {now[n]}" for n, was in earlier.items() if now[n] != was])
        write_text(self.path / DATA_FILE, json.dumps(fingerprints, indent=1))
        self.keep(DATA_FILE)

    def poll(self) -> None:
        """Brings what the workers have recorded under ``path``, now and then."""
        if time.monotonic() >= self._next_pull:
            self._next_pull = time.monotonic() + SECONDS_BETWEEN_PULLS
            with suppress(OSError, ValueError):  # the next time may succeed
                self.storage.pull(METRICS_FILE)

    def collect(self) -> None:
        """Brings all that the workers left for the driver under ``path``."""
        self.storage.pull(METRICS_FILE, REFUSAL_FILE, "evaluation", self.config.recognizer.trained)

    def keep(self, name: str) -> None:
        """Puts a file that the driver wrote under ``path`` where the run is."""
        self.storage.try_to_push(name, f"{name} is not kept")

    def hand_over(self, tracker: Tracker, status: Status) -> bool:
        """Whether MLflow has all of a run that has ended: of a finished one its description and its model too."""
        if status != "FINISHED":
            return tracker.end(status, self.artifacts)
        with suppress(OSError):  # a bucket that does not answer: what was brought before is handed over
            self.collect()
        return tracker.end(status, self.artifacts, noted(self.summary, "train"), self.model)

    def mark_finished(self) -> None:
        write_text(self.path / FINISHED_FILE, json.dumps(self._extent()))
        self.storage.push(FINISHED_FILE)

    def _extent(self) -> dict[str, Any]:
        """What is to be done until the run is finished."""
        return {"num_steps": self.config.num_steps, "num_epochs": self.config.num_epochs}

    def _refuse(self, changes: list[str]) -> None:
        if changes and self.has_begun:
            raise ValueError(
                f"the run in {self.named()} was begun with {'; '.join(changes)}. Give another --name for a new run, "
                "or the same values to resume this one"
            )

    def _changes(self) -> list[str]:
        """What makes this another run than the one the folder was made for; nothing in a new folder."""
        try:
            tree = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError):
            return []
        earlier: dict[str, Any] = {}
        for name, value in tree.items():
            earlier.update({f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value})
        return [
            f"{name} {earlier[name]!r}, now {value!r}"
            for name, value in self.config.flatten().items()
            if name not in self.free_fields and name in earlier and earlier[name] != value
        ]
