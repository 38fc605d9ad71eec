"""The folders of sweeps and comparisons: whose they are, their trials, and what was found."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from kdltr_core.config import RunConfig
from kdltr_core.evaluation.significance import read_correct, read_judged
from kdltr_core.files import write_text
from kdltr_core.remote import is_uri
from pipelines.run.folder import RunFolder
from pipelines.run.metrics_log import MetricsLog, read_records
from pipelines.sweep.comparison import Candidate, ObjectiveComparison
from pipelines.sweep.objectives import ComparedRun
from pipelines.sweep.options import CompareOptions, SweepOptions
from pipelines.sweep.search import points_to_try, pruner_for, sampler_for
from pipelines.sweep.study import SweepStudy, as_json
from tune_spaces.space import Space

_SPEED = "train/images_per_second"


class StudyFolder(RunFolder):
    """``output_folder/name``: config.yaml, sweep.json or comparison.json, report/, and a folder for each study.

    Args:
        settings: with others it is another sweep.
        extent: how much is asked for; more may be asked later.

    Raises: ValueError as ``RunFolder``, for an object store, or if the folder holds what other settings began.
    """

    noun: str
    command: str
    options: SweepOptions | CompareOptions
    studies: Mapping[str, SweepStudy]  # by what a trial of it is called

    def __init__(self, config: RunConfig, settings: Mapping[str, Any], extent: Mapping[str, Any]) -> None:
        if is_uri(config.output_folder):
            raise ValueError(
                f"the trials of a {self.noun} write into one folder, and {config.output_folder} is an object store; "
                "give --output-folder as a path, of a shared mount where there are several machines (data and weights "
                "may be URIs)"
            )
        self._settings, self._asked_for = as_json(settings), as_json(extent)
        super().__init__(config)

    @property
    def has_begun(self) -> bool:
        return any(self.path.glob("*/[0-9][0-9][0-9][0-9]*/"))

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def table(self) -> Path:
        return self.report / f"{self.noun}.md"

    @property
    def artifacts(self) -> list[Path]:
        return [self.path / "config.yaml", self.path / self.mark, self.path / "best.yaml", self.report]

    @property
    def num_missing(self) -> int:
        """How many of the runs asked for failed, where it is not a sweep's business that some do."""
        return 0

    @contextmanager
    def claim(self) -> Iterator[None]:
        with super().claim():
            write_text(self.path / self.mark, json.dumps(self._settings | self._asked_for, indent=1))
            self.report.mkdir(exist_ok=True)
            yield

    def _extent(self) -> dict[str, Any]:
        return self._asked_for

    def _changes(self) -> list[str]:
        try:
            earlier: dict[str, Any] = json.loads((self.path / self.mark).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return super()._changes()
        return super()._changes() + [
            f"{name} {earlier.get(name)!r}, now {value!r}"
            for name, value in self._settings.items()
            if earlier.get(name) != value
        ]


class SweepFolder(StudyFolder):
    """Of a sweep: trials/, confirmation/, report/sweep.md and pictures, best.yaml."""

    noun, mark, command = "sweep", "sweep.json", "pipelines/tune.py"
    # Each trial says for itself whether the teacher's outputs were kept; what is learnt is the same.
    free_fields = RunFolder.free_fields | {"data.teacher_cache"}

    options: SweepOptions

    def __init__(self, config: RunConfig, options: SweepOptions, space: Space) -> None:
        self.options, self.space = options, space
        self.points = points_to_try(space, config, options)
        settings = {
            "space": space.describe(),
            "search": options.search,
            "scheduler": options.scheduler,
            "num_steps": config.num_steps,
            "num_epochs": config.num_epochs,
            "trial_steps": options.trial_steps,
        }
        seeds = options.confirm_seeds if options.confirm else 0
        extent = {"num_trials": options.num_trials, "confirm": options.confirm, "confirm_seeds": seeds}
        super().__init__(config, settings, extent)
        flat = config.flatten()
        self.trials = SweepStudy(
            self.path / "trials",
            baseline={name: flat[name] for name in space.domains},
            space=None if options.search == "grid" else space,
            sampler=sampler_for(options, config.seed),
            pruner=pruner_for(options),
        )
        self.confirmation = SweepStudy(self.path / "confirmation")
        self.studies = {"trial": self.trials, "confirmation": self.confirmation}

    @property
    def num_trials(self) -> int:
        """How many there will be, which a grid may leave below those asked for."""
        num_trials = self.options.num_trials
        return min(num_trials, len(self.points)) if self.options.search == "grid" else num_trials

    @property
    def best(self) -> Path:
        """The point to use, as a config for train.py."""
        return self.path / "best.yaml"

    @property
    def step_times(self) -> Path:
        """What a step takes with the teacher's outputs kept, and without."""
        return self.path / "step_times.json"


class CompareFolder(StudyFolder):
    """Of a comparison: runs/, report/comparison.md. Objectives and seeds may be added later.

    Args:
        asked: all runs that are asked for.
    """

    noun, mark, command = "comparison", "comparison.json", "pipelines/compare.py"

    options: CompareOptions

    def __init__(self, config: RunConfig, options: CompareOptions, asked: Sequence[ComparedRun]) -> None:
        self.options, self.asked = options, asked
        extent = {"objectives": options.objectives, "seeds": options.seeds, "reference": options.against}
        super().__init__(config, {"num_steps": config.num_steps, "num_epochs": config.num_epochs}, extent)
        self.runs = SweepStudy(self.path / "runs")
        self.studies = {"run": self.runs}

    @property
    def num_missing(self) -> int:
        return sum(self._finished(run) is None for run in self.asked)

    def result(self) -> ObjectiveComparison:
        """What the runs asked for came to; objectives with a run that has not ended are left out.

        Raises: ValueError if students were read on different words.
        """
        candidates, left_out = [], []
        files: list[Path] = []
        for name in self.options.objectives:
            folders = [self._finished(run) for run in self.asked if run.candidate == name]
            ended = [folder for folder in folders if folder is not None]
            if len(ended) < len(folders):
                left_out.append(name)
                continue
            read = [folder / "evaluation" / "predictions.parquet" for folder in ended]
            files += read
            correct = read_correct([*files[:1], *read])[1:]
            candidates.append(Candidate(name, correct, tuple(map(_training_speed, ended))))
        sets = read_judged(files[0])["set"].to_pylist() if files else []
        options = self.options
        return ObjectiveComparison(tuple(candidates), options.against, options.seeds, tuple(sets), tuple(left_out))

    def write_report(self) -> str:
        """The table, and its figures where the comparison's own run in MLflow finds them. Returns: ''."""
        result = self.result()
        write_text(self.table, result.to_markdown(f"Objectives compared: {self.config.name}"))
        MetricsLog(self.metrics_log).record(len(self.runs.ended), result.metrics())
        return ""

    def _finished(self, run: ComparedRun) -> Path | None:
        wanted = as_json(run.fields)
        done = (t.folder for t in self.runs.ended if t.state == "FINISHED" and t.params == wanted)
        return next(done, None)


def _training_speed(folder: Path) -> float:
    """Images per second: the median of what was recorded, which a slow start does not spoil; nan without any."""
    records = read_records(folder / "metrics.jsonl")[0]
    return median([record.metrics[_SPEED] for record in records if _SPEED in record.metrics] or [math.nan])
