"""What the user sleepd may do to units: start, stop and restart vllm@NAME.service, and nothing else."""

from __future__ import annotations

from tests.integration.waiting import wait_until
from tests.system.inside import LIMIT_S, System, as_user, show

DENIED = ("ccess denied", "nteractive authentication required", "rmission denied")


def call(user: str, method: str, *arguments: str) -> tuple[int, str]:
    """One call of the manager's D-Bus interface by this user."""
    where = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    done = as_user(user, "busctl", "call", "--allow-interactive-authorization=no", *where, method, *arguments)
    return done.returncode, done.stdout + done.stderr


REFUSED = [
    *(("StartUnit", "ss", unit, "replace") for unit in ("rescue.target", "sleepd.service", "reboot.target")),
    ("StartUnit", "ss", "xvllm@a.service", "replace"),
    ("StopUnit", "ss", "dbus.socket", "replace"),
    ("KillUnit", "ssi", "vllm@a.service", "all", "9"),
    ("ReloadUnit", "ss", "vllm@a.service", "replace"),
    ("FreezeUnit", "s", "vllm@a.service"),
    ("ResetFailedUnit", "s", "vllm@a.service"),
    ("SetUnitProperties", "sba(sv)", "vllm@a.service", "true", "1", "CPUWeight", "t", "1"),
    ("EnableUnitFiles", "asbb", "1", "vllm@b.service", "true", "false"),
    ("Reload",),
    ("Reboot",),
]


def test_servers_may_be_started_stopped_and_restarted(system: System) -> None:
    (a,) = system.start_servers("a")
    before = show(a.unit, "InvocationID")
    assert call("sleepd", "RestartUnit", "ss", a.unit, "replace")[0] == 0
    wait_until(lambda: show(a.unit, "InvocationID") != before and a.answers(), "it to run anew", LIMIT_S)
    assert call("sleepd", "StopUnit", "ss", a.unit, "replace")[0] == 0
    wait_until(lambda: show(a.unit, "ActiveState") == "inactive", "it to be stopped", LIMIT_S)
    assert call("sleepd", "StartUnit", "ss", a.unit, "replace")[0] == 0
    wait_until(a.answers, "it to answer", LIMIT_S)


def test_anything_else_is_refused(system: System) -> None:
    (a,) = system.start_servers("a")
    before = show(a.unit, "InvocationID")
    for method, *arguments in REFUSED:
        code, said = call("sleepd", method, *arguments)
        assert code != 0, (method, arguments)
        assert any(word in said for word in DENIED), (method, arguments, said)
    assert (show(a.unit, "InvocationID"), show(a.unit, "ActiveState")) == (before, "active")


def test_other_users_may_not_even_that(system: System) -> None:
    (a,) = system.start_servers("a")
    for user in ("vllm", "nobody"):
        code, said = call(user, "StopUnit", "ss", a.unit, "replace")
        assert code != 0
        assert any(word in said for word in DENIED), said
    assert show(a.unit, "ActiveState") == "active"


def test_looking_needs_no_permission(system: System) -> None:
    (a,) = system.start_servers("a")
    done = as_user("sleepd", "systemctl", "show", "--value", "--property=MainPID", a.unit)
    assert int(done.stdout) == a.pid
