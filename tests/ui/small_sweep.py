"""A sweep whose accuracies are known beforehand, recorded by the same parts that record a real one."""

from __future__ import annotations

from pathlib import Path

from kdltr_core.config import RunConfig
from pipelines.run.metrics_log import MetricsLog
from pipelines.run.tracking import Description
from pipelines.sweep.folder import SweepFolder
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.phases import record_summary
from pipelines.sweep.report import write_sweep_report
from pipelines.sweep.tracking import SweepTracker
from tune_spaces.space import load_space

# Best validation accuracies in %: of the baseline, then of others.
ACCURACIES = (71.25, 68.5, 100 * 46 / 63, 70.0, 66.25)
WORDS, STEPS = 400, (0, 50, 100)


def record_sweep(folder: Path, tracking_uri: str) -> None:
    """Five trials, the last of them pruned at its half, in MLflow at ``tracking_uri``."""
    config = RunConfig(name="demo-sweep", output_folder=str(folder), tracking_uri=tracking_uri, num_steps=STEPS[-1])
    sweep = SweepFolder(config, SweepOptions(num_trials=len(ACCURACIES)), load_space("loss_weights"))
    with sweep.claim():
        tracker = SweepTracker(sweep.path, config, sweep.studies)
        tracker.begin(Description(config.name, config.flatten(), {"sweep.role": "sweep"}))
        own = sweep.points[0]
        for place, accuracy in enumerate(ACCURACIES):
            is_pruned = place == len(ACCURACIES) - 1
            last = STEPS[1 if is_pruned else 2]
            readings = {step: 45 + step / last * (accuracy - 45) for step in STEPS if step <= last}
            point = {**own, "objective.soft_logits": own["objective.soft_logits"] * 2**place}
            sweep.trials.enqueue([point])
            trial = sweep.trials.begin()
            assert trial is not None
            (trial.folder / "config.yaml").write_text(config.override(point).to_yaml())
            curve = MetricsLog(trial.folder / "metrics.jsonl")
            for step, reading in readings.items():
                curve.record(step, {"validation/word_accuracy": reading, "train/loss": 9 - step / last})
            sweep.trials.end(trial.number, "PRUNED" if is_pruned else "FINISHED")
            record_summary(sweep)
        write_sweep_report(sweep, config, WORDS)
        sweep.mark_finished()
        assert tracker.end("FINISHED", sweep.artifacts)
