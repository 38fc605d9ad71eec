"""The folders of sweeps and comparisons: whose they are, their trials, and what was found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdltr_core.config import RunConfig
from kdltr_core.files import write_text
from kdltr_core.remote import is_uri
from pipelines.run.folder import RunFolder
from pipelines.run.metrics_log import MetricsLog
from pipelines.sweep.comparison import CandidateRuns
from pipelines.sweep.options import CompareOptions, SweepOptions
from pipelines.sweep.page import Page
from pipelines.sweep.report import write_sweep_report
from pipelines.sweep.search import pruner_for, sampler_for
from pipelines.sweep.study import BASELINE, SweepStudy, as_json, best_first
from tune_spaces.space import Space


class StudyFolder(RunFolder):
    """``output_folder/name``: config.yaml, sweep.json or comparison.json, report/, and a folder for each study.

    Args:
        settings: with others it is another sweep.
        extent: how much is asked for; more may be asked later.

    Attributes:
        noun, verb: what it is called, and its command.
        more: options that ask for more.
        studies: by what a trial of it is called.

    Raises: ValueError as ``RunFolder``, for an object store, or if the folder holds what other settings began.
    """

    noun: str
    verb: str
    more: str
    options: SweepOptions | CompareOptions
    studies: Mapping[str, SweepStudy]

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
        """The page."""
        return self.report / f"{self.noun}.html"

    @property
    def artifacts(self) -> list[Path]:
        return [self.path / "config.yaml", self.path / self.mark, self.path / "best.yaml", self.report]

    @property
    def num_missing(self) -> int:
        """How many of the runs asked for failed, where it is not a sweep's business that some do."""
        return 0

    def write_report(self, num_words: int) -> Page:
        """The page, of few or many trials, and its figures where the study's own run in MLflow finds them.

        Args:
            num_words: of the validation split.
        """
        raise NotImplementedError

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
    """Of a sweep: trials/, confirmation/, report/sweep.html and pictures, best.yaml."""

    noun, mark, verb, more = "sweep", "sweep.json", "tune", "--num-trials or --confirm"
    # What is learnt is the same.
    free_fields = RunFolder.free_fields | {"data.teacher_cache"}

    options: SweepOptions

    def __init__(self, config: RunConfig, options: SweepOptions, space: Space) -> None:
        self.options, self.space = options, space
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
        baseline = {name: flat[name] for name in space.distributions}
        self.points = [baseline, *space.points]
        self.trials = SweepStudy(
            self.path / "trials",
            baseline=baseline,
            space=space,
            sampler=sampler_for(options, config.seed),
            pruner=pruner_for(options),
        )
        self.studies = {"trial": self.trials, "confirmation": SweepStudy(self.path / "confirmation")}

    @property
    def best(self) -> Path:
        """The point to use, as a config for train.py."""
        return self.path / "best.yaml"

    @property
    def confirmation(self) -> CandidateRuns:
        """The baseline, and the best trials of other points that ran to their end, to be trained anew.

        Two trials of one point are one candidate. The sweep's own seed is not among the seeds: with it the candidates
        were chosen.
        """
        assert self.trials.baseline is not None
        points: dict[str, Mapping[str, Any]] = {BASELINE: self.trials.baseline}
        for trial in best_first(self.trials.ended):
            if len(points) <= self.options.confirm and trial.params not in points.values():
                points[trial.title] = trial.params
        seeds = tuple(self.config.seed + 1 + place for place in range(self.options.confirm_seeds))
        column = self.config.recognizer.trained_column
        return CandidateRuns(self.studies["confirmation"], points, seeds, BASELINE, column)

    def write_report(self, num_words: int) -> Page:
        return write_sweep_report(self, num_words)


class CompareFolder(StudyFolder):
    """Of a comparison: runs/, report/comparison.html. Objectives and seeds may be added later."""

    noun, mark, verb, more = "comparison", "comparison.json", "compare", "--objectives or --seeds"

    options: CompareOptions

    def __init__(self, config: RunConfig, options: CompareOptions) -> None:
        self.options = options
        extent = {"objectives": options.objectives, "seeds": options.seeds}
        super().__init__(config, {"num_steps": config.num_steps, "num_epochs": config.num_epochs}, extent)
        study = SweepStudy(self.path / "runs")
        column = config.recognizer.trained_column
        self.studies = {"run": study}
        self.runs = CandidateRuns(study, options.fields, options.seeds, options.objectives[0], column)

    @property
    def num_missing(self) -> int:
        return self.runs.num_missing

    def write_report(self, num_words: int) -> Page:
        found = self.runs.compare()
        page = Page(f"Objectives compared: {self.config.name}", (), found.sections("Objectives"))
        page.write(self.table)
        MetricsLog(self.metrics_log).record(len(self.runs.study.ended), found.metrics())
        return page
