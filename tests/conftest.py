"""Fixtures and closing lines that tests of several folders share."""

import gc
from typing import Any

import pytest
from hypothesis import settings

from tests.realvllm.fixtures import fake_nvml, real_pair, real_servers, real_vllm
from tests.simulation.tally import summary

__all__ = ["fake_nvml", "real_pair", "real_servers", "real_vllm"]

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


def pytest_collection_finish() -> None:
    """What was collected stays: garbage collections need not look at it again and again, a twentieth of all time."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the simulated scenarios together came to, how many daemons were killed, and what single tests have to
    report. Here, because the controller of workers loads no other."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]

    def told(what: str) -> list[Any]:
        return [value for report in reports for name, value in report.user_properties if name == what]

    lines = summary(told("played"))
    if lines:
        terminalreporter.section("simulated")
        terminalreporter.write("\n".join([*lines, ""]))
    if killed := sum(told("killed")):
        terminalreporter.write_line(f"{killed:,} daemons killed in the middle of a transition")
    for said in told("reported"):
        terminalreporter.write_line(str(said))
