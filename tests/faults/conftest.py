"""The machines of the drills, and the table of what was measured."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.machines import Machines
from tests.faults.training import Measured

MEASURED = pytest.StashKey[list[Measured]]()


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    with Machines() as all_of_them:
        yield all_of_them


@pytest.fixture
def measured(pytestconfig: pytest.Config) -> list[Measured]:
    """What is added here is printed as a table when all drills are over."""
    return pytestconfig.stash.setdefault(MEASURED, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(MEASURED, [])
    if rows:
        terminalreporter.section("faults")
        terminalreporter.write_line("| fault | steps trained again | seconds without a new step | final weights |")
        terminalreporter.write_line("|---|---:|---:|---|")
        for row in rows:
            terminalreporter.write_line(f"| {row.fault} | {row.steps_again} | {row.seconds:.0f} | {row.weights} |")
