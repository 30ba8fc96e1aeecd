"""What the doctor makes of a daemon of another release, or of something else that answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sleepd.cli.doctor import ask_daemon
from sleepd.client import ApiProblem
from sleepd.doctor.findings import Finding, Verdict, by_check, worst


class OtherRelease:
    """A daemon of another release: `findings` is what it tells; an exception is raised instead."""

    socket_path = "/run/s"

    def __init__(self, findings: Any, version: str = "9.0.0", body: Any = None) -> None:
        self.findings, self.version, self.body = findings, version, body

    def status(self) -> Any:
        return SimpleNamespace(body=self.body or {"version": self.version, "models": []})

    def doctor(self) -> Any:
        if isinstance(self.findings, Exception):
            raise self.findings
        return SimpleNamespace(body={"findings": self.findings})


def asked(client: OtherRelease) -> list[Finding]:
    return list(by_check(ask_daemon(client).findings))  # type: ignore[arg-type]


def test_a_check_that_only_the_daemon_knows_is_told_with_its_advice() -> None:
    new = {"check": "gpu.tides", "verdict": "warn", "about": "moon", "found": "high", "remedy": "wait"}
    odd = {"check": "gpu.caller", "verdict": "awful", "found": "x"}
    found = asked(OtherRelease([new, odd]))
    assert [one.check for one in found] == ["daemon.answers", "daemon.version", "gpu.caller", "gpu.tides"]
    assert found[1].found.endswith("sleepd 9.0.0")
    assert (found[2].verdict, found[3].remedy, found[3].about) == (Verdict.WARN, "wait", "moon")
    assert worst(found) is Verdict.WARN


@pytest.mark.parametrize(
    "answer", [ApiProblem(404, {"kind": "invalid", "title": "no such path"}, ""), [{"verdict": "ok"}], "nonsense", None]
)
def test_a_daemon_that_examines_itself_otherwise_is_one_line(answer: Any) -> None:
    found = asked(OtherRelease(answer))
    (failed,) = (one for one in found if one.verdict is Verdict.FAIL)
    assert failed.check == "daemon.answers"
    assert "does not examine itself as this sleepctl wants it" in failed.found
    assert failed.remedy


MODEL = {"name": "a", "url": "unix:/a", "unit": None, "gpus": []}


@pytest.mark.parametrize(
    "body",
    [
        "hello",
        ["hello"],
        {"version": "9"},
        {"version": "9", "models": None},
        {"version": "9", "models": {"a": MODEL}},
        {"version": "9", "models": [{"name": "a"}]},
        {"version": "9", "models": [MODEL | {"url": 8000}]},
        {"version": "9", "models": [MODEL | {"url": "nowhere"}]},
        {"version": "9", "models": [MODEL | {"gpus": ["0"]}]},
    ],
)
def test_a_daemon_whose_status_is_another_is_one_line(body: Any) -> None:
    told = ask_daemon(OtherRelease([], body=body))  # type: ignore[arg-type]
    (failed,) = told.findings
    assert (failed.check, failed.verdict, told.models) == ("daemon.answers", Verdict.FAIL, None)
    assert failed.found.startswith("it tells no status as this sleepctl wants it: ")
    assert failed.remedy
