"""The folder of a run: whose it is, how far it came, and whether another config may go on in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import yaml

from kdltr_core.config import RunConfig
from kdltr_core.files import HeldByAnother, locked, write_text

# Where a worker says why it does not go on.
REFUSAL_FILE = "refused.txt"
FINISHED_FILE = "finished.json"
# What is in a folder from its beginning, and what it is then the folder of.
KINDS = {"checkpoints": "training run", "sweep.json": "sweep", "comparison.json": "comparison"}
TRACKING_FILE = "tracking.json"

# What a resumed run may change without becoming another run.
FREE_FIELDS = frozenset(
    {"num_steps", "num_epochs", "workers", "max_failures", "tracking_uri", "experiment", "output_folder", "recipe"}
    | {"min_workers", "wait_minutes", "checkpoint_minutes", "log_every", "keep_last", "evaluation_batch_size"}
    | {"data.cache_folder", "data.num_loader_threads", "data.placement"}
)


class RunFolder:
    """``output_folder/name``: config.yaml, checkpoints/, student/, evaluation/, metrics.jsonl.

    Raises: ValueError if the name is no folder name, or if the folder holds a run that another config began, or
        something else than a run.
    """

    mark: ClassVar[str] = "checkpoints"
    free_fields: ClassVar[frozenset[str]] = FREE_FIELDS

    def __init__(self, config: RunConfig) -> None:
        if config.name in (".", "..") or not config.name.strip() or {"/", "\\", "\n"} & set(config.name):
            raise ValueError(f"the name {config.name!r} is not a folder name; give --name something like 'first-try'")
        self.config = config
        self.path = self._open()
        for mark, kind in KINDS.items():
            if mark != self.mark and (self.path / mark).exists():
                raise ValueError(f"{self.place} holds a {kind}; give the {KINDS[self.mark]} another --name")
        self._refuse_another_config()

    def _open(self) -> Path:
        return Path(self.config.output_folder) / self.config.name

    @property
    def place(self) -> str:
        """What the folder is called, for people and for workers: a path, or the URI of one in an object store."""
        return str(self.path)

    def named(self, name: str) -> str:
        """What a file of the folder is called."""
        return str(self.path / name)

    @property
    def has_begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return any((self.path / "checkpoints").glob("step-*"))

    @property
    def is_finished(self) -> bool:
        """Whether this very run, with as many steps, has been trained and read to its end."""
        try:
            length = json.loads((self.path / FINISHED_FILE).read_text())
        except (OSError, json.JSONDecodeError):
            return False
        return length == self._length() and self.table.exists()

    @property
    def table(self) -> Path:
        return self.path / "evaluation" / "table.md"

    @property
    def metrics_log(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def artifacts(self) -> list[Path]:
        """What the tracking server is given beside figures."""
        return [self.path / "config.yaml", self.path / "evaluation", self.metrics_log]

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Holds the folder while a run writes in it, and writes the config there.

        Raises: ValueError if another process holds it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path / ".lock", seconds=0):
                if self._changes():
                    for left_over in (self.metrics_log, self.path / TRACKING_FILE):
                        left_over.unlink(missing_ok=True)
                for outcome in (FINISHED_FILE, REFUSAL_FILE):
                    (self.path / outcome).unlink(missing_ok=True)
                write_text(self.path / "config.yaml", self.config.to_yaml())
                yield
        except HeldByAnother:
            raise ValueError(
                f"another process is training in {self.place}; wait for it, or give another --name"
            ) from None
        except PermissionError as error:
            raise ValueError(f"{self.path} cannot be written ({error}); give another --output-folder") from error

    def look(self) -> None:
        """Brings what the workers have recorded under ``path``, now and then; fails in silence."""

    def collect(self) -> None:
        """Brings all that the workers left for the driver under ``path``."""

    def keep(self, name: str) -> None:
        """Puts a file that the driver wrote under ``path`` where the run is."""

    def mark_finished(self) -> None:
        write_text(self.path / FINISHED_FILE, json.dumps(self._length()))

    def _length(self) -> dict[str, float | int | None]:
        return {"num_steps": self.config.num_steps, "num_epochs": self.config.num_epochs}

    def _refuse_another_config(self) -> None:
        changes = self._changes()
        if changes and self.has_begun:
            raise ValueError(
                f"the run in {self.place} was begun with {'; '.join(changes)}. Give another --name for a new run, "
                "or the same values to go on with this one"
            )

    def _changes(self) -> list[str]:
        """What makes this another run than the one the folder was made for; nothing in a new folder."""
        earlier = self._earlier() or {}
        return [
            f"{name} {earlier[name]!r}, now {value!r}"
            for name, value in self.config.flatten().items()
            if name not in self.free_fields and name in earlier and earlier[name] != value
        ]

    def _earlier(self) -> dict[str, object] | None:
        """The fields in the folder's config.yaml, those of an older version among them; None without a legible file."""
        try:
            tree = yaml.safe_load((self.path / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError):
            return None
        if not isinstance(tree, dict):
            return None
        flat: dict[str, object] = {}
        for name, value in tree.items():
            flat.update({f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value})
        return flat
