"""What a person at the terminal sees of a sweep: a bar on a terminal, else a line for each trial that ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from pipelines.run.progress import say
from pipelines.sweep.study import Entry, Ledger
from pipelines.sweep.sweep import short


class SweepProgress:
    """Counts trials as they end; called by the ledger.

    Args:
        label: what one of them is called.
        total: trials in all.
    """

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._bar = tqdm(total=total, desc=label, unit="", disable=None)
        self._seen: set[int] = set()

    def __call__(self, ledger: Ledger) -> None:
        ended = ledger.ended
        fresh = [entry for entry in ended if entry.number not in self._seen]
        self._seen = {entry.number for entry in ended}
        for entry in fresh:
            if self._bar.disable or entry.state == "FAILED":
                say(f"{self._label} {entry.number} {told(entry)}")
        self._bar.set_postfix_str(headline(ledger), refresh=False)
        self._bar.n = len(ended)
        self._bar.refresh()

    def start(self, ledger: Ledger) -> None:
        """What was done before is not told again."""
        self._seen = {entry.number for entry in ledger.ended}
        self._bar.n = self._bar.initial = len(self._seen)
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


@contextmanager
def watched(
    ledger: Ledger,
    label: str,
    total: int,
    record: Callable[[Ledger], None] | None = None,
) -> Iterator[None]:
    """A bar as ``SweepProgress`` has it, and ``record`` of the ledger, whenever a trial begins or ends."""
    progress = SweepProgress(label, total)
    progress.start(ledger)

    def changed(ledger: Ledger) -> None:
        progress(ledger)
        if record is not None:
            record(ledger)

    ledger.on_change = changed
    try:
        yield
    finally:
        ledger.on_change = lambda ledger: None
        progress.close()


def headline(ledger: Ledger) -> str:
    """ "2 running, best 83.25 % (7)" of what is known."""
    running = sum(entry.is_running for entry in ledger.entries)
    done = [(entry.accuracy or 0.0, -entry.number) for entry in ledger.ended if entry.state == "FINISHED"]
    best = f", best {max(done)[0]:.2f} % ({-max(done)[1]})" if done else ""
    return f"{running} running{best}"


def told(entry: Entry) -> str:
    """How a trial ended, in a line: "finished, 83.25 % (soft_logits 20)"."""
    point = ", ".join(f"{name.rpartition('.')[2]} {short(value)}" for name, value in entry.params.items())
    read = "nothing read" if entry.accuracy is None else f"{entry.accuracy:.2f} %"
    why = f": {entry.error}" if entry.error else ""
    return f"{(entry.state or 'running').lower()}, {read} ({point}){why}"
