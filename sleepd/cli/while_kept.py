"""A command that runs while something is kept for it at the daemon: a hold, a reservation."""

from __future__ import annotations

import signal
import sys

from sleepd.cli import child
from sleepd.cli.codes import BY_SIGNAL, OWN_FAILURE
from sleepd.cli.prose import tell_problem
from sleepd.cli.screen import clean
from sleepd.client import ApiProblem, DaemonUnreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


class Told(SystemExit):
    """Somebody told sleepctl to end before CMD began."""


def heed_signals() -> None:
    """Let SIGTERM and SIGHUP raise Told from now on."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end_early)


def _end_early(number: int, _: object) -> None:
    raise Told(number)


def run_while(keep: Callable[[], AbstractContextManager[object]], cmd: list[str], subject: str = "") -> int:
    """Keep it, run CMD, let go, and return CMD's status. Our own output goes to stderr alone: stdout is CMD's.

    A refusal is told of `subject`.
    """
    heed_signals()
    try:
        with keep():
            return child.run(cmd)
    except DaemonUnreachable as error:
        print(f"sleepctl: {clean(error)}", file=sys.stderr)
    except ApiProblem as problem:
        print("\n".join(tell_problem(problem, subject)), file=sys.stderr)
    except KeyboardInterrupt:
        return BY_SIGNAL + signal.SIGINT
    except Told as told:
        return BY_SIGNAL + int(str(told.code))
    return OWN_FAILURE


def shown(cmd: list[str]) -> str:
    """Return the command as a reason: what is printable of its beginning."""
    text = clean(" ".join(cmd))
    return text if len(text) <= 100 else f"{text[:99]}…"
