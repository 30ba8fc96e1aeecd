"""`sleepctl hold`: a model kept awake while a command runs, or for a time."""

from __future__ import annotations

import secrets
import signal
import sys

from sleepd.cli import child
from sleepd.cli.codes import BY_SIGNAL, DONE, OWN_FAILURE
from sleepd.cli.prose import tell_problem
from sleepd.cli.screen import clean, print_text
from sleepd.client import ApiProblem, Client, DaemonUnreachable
from sleepd.core.units import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def hold(client: Client, options: argparse.Namespace) -> int:
    if options.release is not None:
        return _release(client, options)
    if options.cmd is not None:
        return _while_running(client, options)
    hold_id = options.id or f"{options.model}-{secrets.token_hex(4)}"
    reply = client.hold(
        hold_id,
        options.model,
        ttl_s=options.ttl,
        reason=options.reason,
        wait=not options.no_wait,
        timeout_s=options.timeout,
    )
    if options.json:
        print_text(reply.text)
        return DONE
    state = "held awake" if reply.status == 200 else "held, and it wakes"
    print(f"{options.model}: {state} for {format_duration(options.ttl)} as {hold_id}")
    print(f"let go sooner with: sleepctl hold --release {hold_id}", file=sys.stderr)
    return DONE


def _release(client: Client, options: argparse.Namespace) -> int:
    reply = client.release(options.release)
    if options.json:
        print_text(reply.text)
    elif reply.body["released"]:
        print(f"{clean(options.release)}: let go of")
    else:
        print(f"{clean(options.release)}: there was no such hold")
    return DONE


class Told(SystemExit):
    """Somebody told sleepctl to end before CMD began."""


def _while_running(client: Client, options: argparse.Namespace) -> int:
    """Wake the model, run CMD while it is held, let go. Its own output goes to stderr alone: stdout is CMD's."""

    def lost(why: str) -> None:
        print(f"sleepctl: {options.model} is no longer held: {clean(why)}; the command goes on", file=sys.stderr)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_early)
    held = client.holding(
        options.model, options.id, reason=options.reason or shown(options.cmd), timeout_s=options.timeout, on_lost=lost
    )
    try:
        with held:
            return child.run(options.cmd)
    except DaemonUnreachable as error:
        print(f"sleepctl: {clean(error)}", file=sys.stderr)
    except ApiProblem as problem:
        print("\n".join(tell_problem(problem, options.model)), file=sys.stderr)
    except KeyboardInterrupt:
        return BY_SIGNAL + signal.SIGINT
    except Told as told:
        return BY_SIGNAL + int(str(told.code))
    return OWN_FAILURE


def end_early(number: int, _: object) -> None:
    raise Told(number)


def shown(cmd: list[str]) -> str:
    """Return the command as a reason: what is printable of its beginning."""
    text = clean(" ".join(cmd))
    return text if len(text) <= 100 else f"{text[:99]}…"
