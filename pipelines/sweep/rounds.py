"""A population, round after round: all trials a part of their length, then the worst take over from the best."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import filelock

from kdltr_core.config import RunConfig
from kdltr_core.train.checkpoint import CheckpointStore
from pipelines.run.command_line import RunStopped
from pipelines.run.progress import say
from pipelines.sweep.folder import SweepFolder
from pipelines.sweep.population import Copy, Decisions, choose_copies, explore, round_ends
from pipelines.sweep.progress import watched
from pipelines.sweep.resources import Room
from pipelines.sweep.search import LedgerSearch
from pipelines.sweep.study import INHERITED_FILE, Ledger
from pipelines.sweep.trial import SECONDS_FOR_OTHERS
from pipelines.sweep.tuner import run_trials
from tune_spaces.space import Space


def train_population(
    config: RunConfig,
    space: Space,
    points: Sequence[Mapping[str, Any]],
    folder: SweepFolder,
    room: Room,
    record: Callable[[Ledger], None],
) -> None:
    """Trains a trial a point to its end, all of them from round to round.

    The trial of the config's own point goes on as it began, so that the others have it to be compared with.

    Args:
        config: of every trial, but for its point.
        record: called whenever a trial begins or ends.

    Raises: RunStopped; KeyboardInterrupt.
    """
    ledger, decisions = folder.trials, Decisions(folder.path / "rounds.json")
    for place, percent in enumerate(round_ends(folder.options.rounds)):
        settings = {**room.settings, "benchmarks": False}
        search = LedgerSearch(ledger, config, points, settings, until=percent)
        label = f"round {place + 1} of {folder.options.rounds}, trial"
        with watched(ledger, label, len(points), record, until=percent):
            run_trials(search, len(points), room, folder.path)
        if percent == 100:
            break
        copies = decisions.at(percent)
        if copies is None:
            copies = _decide(ledger, space, Random(f"{config.seed} {percent}"))
            decisions.make(percent, copies)
            say(_told(copies, percent))
        for copy in copies:
            take_over(ledger, copy, percent)


def take_over(ledger: Ledger, copy: Copy, percent: float) -> None:
    """Once: where an earlier driver has done it, nothing. Half done, it is done again, as its source still waits.

    Raises: RunStopped if another process trains in its folder.
    """
    target, source = ledger.entries[copy.to], ledger.entries[copy.of]
    if any(earlier == percent for earlier, _ in target.copied):
        return
    with _alone(target.folder):
        newest = CheckpointStore(source.folder / "checkpoints", 1).steps()[-1]
        _replace(target.folder / "checkpoints", source.folder / "checkpoints", f"step-{newest:08d}")
        for trained in ("student", "teacher"):
            if (source.folder / trained).exists():
                _replace(target.folder / trained, source.folder / trained)
        (target.folder / INHERITED_FILE).write_text(json.dumps(source.curve), encoding="utf-8")
        ledger.take_over(copy.to, copy.of, percent, copy.values)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of a driver that was killed, trials may live on for some seconds. Raises: RunStopped if they do for longer."""
    lock = filelock.FileLock(folder / ".lock", timeout=SECONDS_FOR_OTHERS)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RunStopped(f"another process still trains in {folder}; end it, and give the same command again") from None
    try:
        yield
    finally:
        lock.release()


def _decide(ledger: Ledger, space: Space, random: Random) -> list[Copy]:
    waiting = {entry.number: entry for entry in ledger.open}
    accuracies = {number: entry.curve[-1][1] for number, entry in waiting.items()}
    kept = {number for number, entry in waiting.items() if entry.is_published}
    chosen = choose_copies(accuracies, kept, random)
    return [Copy(to, of, explore(waiting[of].point, space, random)) for to, of in chosen.items()]


def _told(copies: Sequence[Copy], percent: float) -> str:
    if not copies:
        return f"at {percent:.3g} %: every trial goes on as it is"
    pairs = ", ".join(f"trial {copy.to} from {copy.of}" for copy in copies)
    return f"at {percent:.3g} %, with another's weights and other values go on: {pairs}"


def _replace(target: Path, source: Path, only: str = "") -> None:
    incoming = target.with_name(f".{target.name}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    shutil.copytree(source / only, incoming / only)
    shutil.rmtree(target, ignore_errors=True)
    incoming.replace(target)
