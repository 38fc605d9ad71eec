"""Work shared among processes: the same results in the same order, whatever becomes of the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from kdltr_core.data.synth.processes import map_in_processes


def squared(number: int) -> tuple[int, int]:
    time.sleep(0.01 * (number % 3))  # so that they are not done in the order in which they were begun
    return number * number, os.getpid()


def killed_elsewhere(home: int, number: int) -> int:
    if os.getpid() != home and number >= 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refused(number: int) -> int:
    raise ValueError(f"{number} is refused")


def test_results_come_in_order_from_other_processes() -> None:
    results, processes = zip(*map_in_processes(squared, range(40), 3), strict=True)
    assert results == tuple(number * number for number in range(40))
    assert os.getpid() not in processes
    assert len(set(processes)) > 1


def test_what_a_killed_process_leaves_is_done_here() -> None:
    assert list(map_in_processes(partial(killed_elsewhere, os.getpid()), range(10), 2)) == list(range(10))


def test_without_any_other_process_all_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert {process for _, process in map_in_processes(squared, range(4), 2)} == {os.getpid()}


def test_an_error_is_raised_here() -> None:
    with pytest.raises(ValueError, match="0 is refused"):
        list(map_in_processes(refused, range(3), 2))


def test_closing_the_iterator_ends_the_processes() -> None:
    results = map_in_processes(squared, range(1000), 2)
    processes = {next(results)[1] for _ in range(20)}
    results.close()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """As a user's may be: rendering must not run it again in every process."""
    script = tmp_path / "mine.py"
    script.write_text(
        "import math; from kdltr_core.data.synth.processes import map_in_processes; print('began')\n"
        "print(list(map_in_processes(math.factorial, range(5), 2)))\n"
    )
    found = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, env=found, timeout=120)
    assert (done.stdout, done.stderr) == ("began\n[1, 1, 2, 6, 24]\n", "")
