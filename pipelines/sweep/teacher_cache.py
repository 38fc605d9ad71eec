"""The teacher's outputs, kept once for all trials of a sweep where that pays; and what a step takes either way."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import torch

from kdltr_core.config import RunConfig
from kdltr_core.data.dataset import Datasets, load_datasets
from kdltr_core.distributed import DistributedContext
from kdltr_core.files import write_text
from kdltr_core.recognizers.registry import charset_of
from kdltr_core.train.build import load_teacher
from kdltr_core.train.distiller import needs_teacher
from kdltr_core.train.engine import total_steps
from kdltr_core.train.teacher_cache import open_teacher_cache, teacher_cache_size
from pipelines.run.metrics_log import MetricsLog
from pipelines.run.progress import progress_bar, say
from pipelines.sweep.folder import SweepFolder
from pipelines.sweep.options import SweepOptions
from pipelines.sweep.resources import TrialResources
from pipelines.sweep.step_times import measure_step_times, tell_step_times
from tune_spaces.space import Space

# Of the free disk: other things are kept there as well.
MOST_OF_DISK = 0.5
SECONDS_BETWEEN_POLLS = 0.5


def share_teacher_cache(
    config: RunConfig, words: Datasets, resources: TrialResources, folder: SweepFolder
) -> RunConfig:
    """Makes the cache that the trials share, and measures a step once; the config as the trials are to have it.

    Args:
        config: a cache is made if its data.teacher_cache is on, and something is gained by it.
        resources: of a trial, with which this is done too.

    Raises: ValueError, OSError as ``fit``.
    """
    if config.data.teacher_cache == "off":
        return config
    why_not = why_not_kept(config, folder.options, folder.space, len(words.train))
    if not why_not:
        why_not, times = _on_a_machine(config, resources, folder)
    if why_not:
        say(f"the teacher is asked anew in every step: {why_not}")
        return config.override({"data.teacher_cache": "off"})
    if times:
        write_text(folder.step_times, json.dumps(times))
        say(tell_step_times(times))
        figures = {"kept": times["on"], "anew": times["off"]}
        named = {f"sweep/step_seconds_teacher_{name}": seconds for name, seconds in figures.items()}
        MetricsLog(folder.metrics_log).record(0, named)
    return config


def why_not_kept(config: RunConfig, options: SweepOptions, space: Space, num_pairs: int) -> str:
    """Why nothing is gained by keeping the teacher's outputs; '' if something is."""
    if not needs_teacher(config.objective):
        return "the loss has no use for it"
    changing = [name for name in space.domains if name.startswith(("data.", "recognizer.teacher"))]
    changing = [name for name in changing if not name.startswith("data.train_degradation")]
    if changing:
        return f"its images, or itself, differ between trials by {', '.join(changing)}"
    shorter = config.override({"num_steps": options.trial_steps or config.num_steps})
    num_images = options.num_trials * total_steps(shorter, num_pairs)
    num_images += (options.confirm + 1) * options.confirm_seeds * total_steps(config, num_pairs) * bool(options.confirm)
    num_images *= config.optim.batch_size
    if num_images < num_pairs:
        return f"all trials together train on {num_images:,} images, fewer than the {num_pairs:,} that there are"
    return ""


def _on_a_machine(config: RunConfig, resources: TrialResources, folder: SweepFolder) -> tuple[str, Mapping[str, float]]:
    """Where trials run, for there the disk and the GPU are. Returns: as ``_make_and_measure``."""
    note = folder.path / ".teacher-outputs-made"
    taken, settings = dict(resources.of_a_trial), resources.settings
    if settings["workers"]:
        taken = {"gpu": 1} if settings["use_gpu"] else {"cpu": 1}
    task = ray.remote(_make_and_measure).options(
        num_cpus=taken.get("cpu", 0), num_gpus=taken.get("gpu", 0), max_retries=0
    )
    answer = task.remote(config.model_dump(mode="json"), settings, str(note), not folder.step_times.exists())
    progress = progress_bar("the teacher reads each training image once")
    try:
        while not ray.wait([answer], timeout=SECONDS_BETWEEN_POLLS)[0]:
            if note.exists():
                done, total = note.read_text().split()
                progress(int(done), int(total))
        return ray.get(answer)
    except KeyboardInterrupt:
        # Only what still runs: to cancel a task that has just ended can take the driver with it.
        ray.cancel(answer, force=True)
        raise
    except ray.exceptions.RayTaskError as error:
        raise error.as_instanceof_cause() from None
    finally:
        note.unlink(missing_ok=True)


def _make_and_measure(
    fields: Mapping[str, Any], settings: Mapping[str, Any], note: str, measure: bool
) -> tuple[str, Mapping[str, float]]:
    """Returns: why the outputs cannot be kept, or ''; and the step times, if they were to be measured."""
    torch.set_num_threads(settings["threads"])
    config, world = RunConfig.model_validate(fields), DistributedContext.current()
    words = load_datasets(config.data, charset_of(config), description=settings["datasets"])
    teacher = load_teacher(config, world.device)
    how: dict[str, Any] = {"cache_folder": config.data.cache_folder, "precision": config.optim.precision}
    size = teacher_cache_size(teacher, words.train, device=world.device, **how)
    free = shutil.disk_usage(Path(config.data.cache_folder).expanduser()).free
    if size > MOST_OF_DISK * free:
        takes = f"what it says of {len(words.train):,} images takes {size / 1e9:.1f} GB"
        return f"{takes}, and {config.data.cache_folder} has {free / 1e9:.1f} GB free", {}
    since = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal since
        if time.monotonic() - since > SECONDS_BETWEEN_POLLS:
            since = time.monotonic()
            write_text(Path(note), f"{done} {total}")

    batch_size = config.evaluation_batch_size
    open_teacher_cache(teacher, words.train, device=world.device, batch_size=batch_size, progress=progress, **how)
    del teacher
    return "", measure_step_times(config, words, world) if measure else {}
