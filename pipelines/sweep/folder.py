"""The folder of a sweep: whose it is, its trials, and what was found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdltr_core.config import RunConfig
from kdltr_core.files import write_text
from pipelines.run.folder import FREE_FIELDS, RunFolder
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.study import Ledger
from pipelines.sweep.sweep import Parameter
from tune_spaces.space import Space


class SweepFolder(RunFolder):
    """``output_folder/name``: config.yaml, sweep.json, trials/, confirmation/, report/, best.yaml.

    Raises: ValueError as ``RunFolder``; if the folder holds a sweep of another space or search.
    """

    def __init__(self, config: RunConfig, options: SweepOptions, space: Space) -> None:
        if "://" in config.output_folder:
            raise ValueError(
                f"the trials of a sweep write into one folder, and {config.output_folder} is an object store; give "
                "--output-folder as a path, of a shared mount where there are several machines (data and weights may "
                "be URIs)"
            )
        self.options = options
        self.space = [Parameter(name, **described) for name, described in space.describe().items()]
        lengths = {"num_steps": config.num_steps, "num_epochs": config.num_epochs, "trial_steps": options.trial_steps}
        self._settings = {
            "space": space.describe(),
            "search": options.search,
            "scheduler": options.scheduler,
            **{name: value for name, value in lengths.items() if value is not None},
        }
        super().__init__(config)
        flat = config.flatten()
        self.trials = Ledger(self.path / "trials", {name: flat[name] for name in space.domains})
        self.confirmation = Ledger(self.path / "confirmation", {})

    mark = "sweep.json"
    # Each trial says for itself whether the teacher's outputs were kept; what is learnt is the same.
    free_fields = FREE_FIELDS | {"data.teacher_cache"}

    @property
    def has_begun(self) -> bool:
        return any((self.path / "trials").glob("[0-9]*"))

    @property
    def is_finished(self) -> bool:
        """Whether as many trials, and as large a confirmation, came to their end, and the report is there."""
        try:
            done = json.loads((self.path / "finished.json").read_text())
        except (OSError, json.JSONDecodeError):
            return False
        return done == self._extent() and self.table.exists()

    @property
    def table(self) -> Path:
        return self.report / "sweep.md"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def best(self) -> Path:
        """The point to use, as a config for train.py."""
        return self.path / "best.yaml"

    @property
    def step_times(self) -> Path:
        """What a step takes with the teacher's outputs kept, and without."""
        return self.path / "step_times.json"

    @property
    def artifacts(self) -> list[Path]:
        return [self.path / "config.yaml", self.path / "sweep.json", self.best, self.report]

    @contextmanager
    def claim(self) -> Iterator[None]:
        with super().claim():
            write_text(self.path / "sweep.json", json.dumps(self._settings, indent=1))
            yield

    def mark_finished(self) -> None:
        write_text(self.path / "finished.json", json.dumps(self._extent()))

    def _extent(self) -> dict[str, int]:
        seeds = self.options.confirm_seeds if self.options.confirm else 0
        return {"num_trials": self.options.num_trials, "confirm": self.options.confirm, "confirm_seeds": seeds}

    def _changes(self) -> list[str]:
        try:
            earlier: dict[str, Any] = json.loads((self.path / "sweep.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return super()._changes()
        now = json.loads(json.dumps(self._settings))
        return super()._changes() + [
            f"{name} {earlier.get(name)!r}, now {now.get(name)!r}"
            for name in dict.fromkeys([*earlier, *now])
            if earlier.get(name) != now.get(name)
        ]
