"""What a person at the terminal sees while the work is done elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from pipelines.run.metrics_log import Record, read_records

SECONDS_BETWEEN_POLLS = 1.0
SECONDS_BETWEEN_LINES = 15.0


def say(sentence: str) -> None:
    """One line on stderr, above a bar if there is one."""
    tqdm.write(sentence, file=sys.stderr)


def shown_path(path: str) -> str:
    """A path as a person would type it here: below the current folder without it, below the home folder with ~."""
    for base, start in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.startswith(f"{base}/"):
            return start + path.removeprefix(f"{base}/")
    return path


def progress_bar(label: str) -> Callable[[int, int], None]:
    """A bar that counts ``progress(done, total)``; it goes away when all is done."""
    bar: tqdm | None = None

    def progress(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=label, leave=False, disable=None, unit_scale=True)
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    return progress


@contextmanager
def polled(poll: Callable[[], None], seconds: float = SECONDS_BETWEEN_POLLS) -> Iterator[None]:
    """Calls ``poll`` every so many seconds, from a thread of its own."""
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(seconds):
            poll()

    thread = threading.Thread(target=follow, name="poll", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def clock(label: str) -> Iterator[None]:
    """Shows how long something takes that cannot be counted, on a terminal alone."""
    with tqdm(desc=label, bar_format="{desc}: {elapsed}", leave=False, disable=None) as bar, polled(bar.refresh):
        yield


class Follower:
    """Follows the metrics log that rank 0 writes, from the driver: a bar on a terminal, else a line now and then.

    Args:
        metrics_log: metrics.jsonl of the run.
        total: steps of the whole run.
    """

    def __init__(self, metrics_log: Path, total: int) -> None:
        self._metrics_log = metrics_log
        earlier, self._offset = read_records(metrics_log)
        self._latest: dict[str, float] = {}
        self._bar = tqdm(total=total, desc="training", unit="step", disable=None, initial=_last_step(earlier))
        self._total, self._last_line = total, time.monotonic()
        self._after: tuple[str, Callable[[int, int], None]] = ("", lambda done, total: None)

    def close(self) -> None:
        self.poll()
        self._bar.close()
        self._after[1](1, 1)

    def poll(self) -> None:
        records, self._offset = read_records(self._metrics_log, self._offset)
        for record in records:
            self._latest.update(record.metrics)
            if record.note:
                say(record.note)
            if record.done:
                self._show_after(*record.done)
        names = {name.partition("/")[0] for record in records for name in record.metrics}
        if not names & {"train", "validation"}:
            return
        step = _last_step(records)
        self._bar.set_postfix_str(headline(self._latest), refresh=False)
        self._bar.update(step - self._bar.n)
        due = time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES
        if self._bar.disable and ("validation" in names or due):
            say(f"step {step} of {self._total}: {headline(self._latest)}")
            self._last_line = time.monotonic()

    def _show_after(self, label: str, done: int, total: int) -> None:
        """A bar of its own for what follows the training, so that this one does not stand at its end."""
        if self._after[0] != label:
            self._bar.close()
            self._after[1](1, 1)  # of an earlier phase, whose last progress may not have been told
            self._after = (label, progress_bar(label))
            if self._bar.disable:
                say(f"{label} …")
        self._after[1](done, total)


def headline(metrics: dict[str, float]) -> str:
    """ "loss 1.23, 45 images/s, validation 67.8 %" of what is known."""
    forms = (
        ("train/loss", "loss {:.3f}"),
        ("train/images_per_second", "{:.0f} images/s"),
        ("validation/word_accuracy", "validation {:.1f} %"),
    )
    return ", ".join(form.format(metrics[name]) for name, form in forms if name in metrics)


def _last_step(records: list[Record]) -> int:
    return max((record.step for record in records), default=0)
