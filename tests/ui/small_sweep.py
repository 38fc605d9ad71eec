"""A sweep whose accuracies are known beforehand, recorded by the same parts that record a real one."""

from __future__ import annotations

from pathlib import Path

from kdltr_core.config import RunConfig
from pipelines.run.metrics_log import MetricsLog
from pipelines.run.tracking import Description
from pipelines.sweep.end import summary_metrics, write_report
from pipelines.sweep.folder import SweepFolder
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.tracking import SweepTracker
from tune_spaces.space import load_space

# Best validation accuracies in %: of the published point, then of others.
ACCURACIES = (71.25, 68.5, 100 * 46 / 63, 70.0, 66.25)
WORDS, STEPS = 400, (0, 50, 100)


def record_sweep(folder: Path, tracking_uri: str) -> None:
    """Five trials, the last of them pruned at its half, in MLflow at ``tracking_uri``."""
    config = RunConfig(name="demo-sweep", output_folder=str(folder), tracking_uri=tracking_uri, num_steps=STEPS[-1])
    sweep = SweepFolder(config, SweepOptions(num_trials=len(ACCURACIES)), load_space("loss_weights"))
    with sweep.claim():
        tracker = SweepTracker(sweep.path, config, print)
        tracker.begin(Description(config.name, config.flatten(), {"sweep.role": "sweep"}))
        tracker.follow("trial", sweep.trials)
        metrics_log = MetricsLog(sweep.path / "metrics.jsonl")
        for place, accuracy in enumerate(ACCURACIES):
            is_pruned = place == len(ACCURACIES) - 1
            soft = sweep.trials.published["objective.soft_logits"] * 2**place
            entry = sweep.trials.begin({**sweep.trials.published, "objective.soft_logits": soft})
            (entry.folder / "config.yaml").write_text(config.override(entry.params).to_yaml())
            curve = MetricsLog(entry.folder / "metrics.jsonl")
            for step in STEPS[: 2 if is_pruned else 3]:
                share = step / STEPS[1 if is_pruned else 2]
                curve.record(step, {"validation/word_accuracy": 45 + share * (accuracy - 45), "train/loss": 9 - share})
            sweep.trials.end(entry.number, "PRUNED" if is_pruned else "FINISHED")
            metrics_log.record(place + 1, summary_metrics([each.to_trial() for each in sweep.trials.ended], None))
        write_report(sweep, config, WORDS, None)
        sweep.mark_finished()
        assert tracker.end("FINISHED", sweep.artifacts)
