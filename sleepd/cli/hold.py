"""`sleepctl hold`: a model kept awake while a command runs, or for a time."""

from __future__ import annotations

import secrets
import sys

from sleepd.cli.codes import DONE
from sleepd.cli.screen import clean, print_text
from sleepd.cli.while_kept import run_while, shown
from sleepd.core.units import format_duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from sleepd.client import Client
    from sleepd.client.holding import Holding


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


def _while_running(client: Client, options: argparse.Namespace) -> int:
    """Wake the model, run CMD while it is held, let go."""

    def lost(why: str) -> None:
        print(f"sleepctl: {options.model} is no longer held: {clean(why)}; the command goes on", file=sys.stderr)

    def keep() -> Holding:
        reason = options.reason or shown(options.cmd)
        return client.holding(options.model, options.id, reason=reason, timeout_s=options.timeout, on_lost=lost)

    return run_while(keep, options.cmd, options.model)
