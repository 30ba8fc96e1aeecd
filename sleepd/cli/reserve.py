"""`sleepctl reserve`: GPU memory for a job, while a command runs, until interrupted, or for a time."""

from __future__ import annotations

import json
import re
import secrets
import signal
import sys

from sleepd.cli.codes import DONE, REFUSED
from sleepd.cli.reservations_table import name_gpus
from sleepd.cli.screen import clean, print_text
from sleepd.cli.while_kept import Told, heed_signals, run_while, shown
from sleepd.core.units import format_duration, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from sleepd.client import Client
    from sleepd.client.reserving import Reserving
    from sleepd.wire.reservation_shapes import Reservation

LOOK_S = 0.5
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DURATION = re.compile(r"\b\d+(\.\d)?(ms|[smhd])(\d+[smhd])?\b")
"""What format_duration makes: a countdown alone is no news."""


def reserve(client: Client, options: argparse.Namespace) -> int:
    if options.end is not None:
        return _end(client, options)
    if options.ttl is not None:
        return _for_a_time(client, options)
    if options.cmd is None:
        return _until_interrupted(client, options)
    return _while_running(client, options)


def _end(client: Client, options: argparse.Namespace) -> int:
    reply = client.give_back(options.end)
    if options.json:
        print_text(reply.text)
    else:
        print(f"{clean(options.end)}: {'given back' if reply.body['released'] else 'there was no such reservation'}")
    return DONE


def _for_a_time(client: Client, options: argparse.Namespace) -> int:
    reservation_id = options.id or f"job-{secrets.token_hex(4)}"
    reply = client.reserve_for(
        *(reservation_id, options.gpu, options.vram),
        ttl_s=options.ttl,
        reason=options.reason,
        wait=not options.no_wait,
        timeout_s=options.timeout,
    )
    if options.json:
        print_text(reply.text)
        return DONE
    size = _size(reply.body)
    if reply.body["granted"]:
        print(f"{reservation_id}: {size} reserved for {format_duration(options.ttl)}")
    else:
        print(f"{reservation_id}: accepted, waiting for {size}")
    print(f"give it back sooner with: sleepctl reserve --end {reservation_id}", file=sys.stderr)
    return DONE


def _until_interrupted(client: Client, options: argparse.Namespace) -> int:
    """Keep it until told to end; refused or lost, the exit code says so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    heed_signals()
    try:
        with _reserving(client, options, options.reason, "") as kept:
            assert kept.reservation is not None
            if options.json:
                print_text(json.dumps(kept.reservation, ensure_ascii=False))
            else:
                print(f"{kept.id}: {_size(kept.reservation)} reserved until you interrupt this", flush=True)
            sys.stdout.flush()
            signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
            while not kept.lost:
                if signal.sigtimedwait(_ENDING, LOOK_S) is not None:
                    return DONE
            return REFUSED
    except Told:
        return DONE
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _while_running(client: Client, options: argparse.Namespace) -> int:
    """Make the room, run CMD while it is kept, give it back."""
    reason = options.reason or shown(options.cmd)
    return run_while(lambda: _reserving(client, options, reason, "; the command goes on"), options.cmd)


def _reserving(client: Client, options: argparse.Namespace, reason: str, after: str) -> Reserving:
    told = ""

    def lost(why: str) -> None:
        print(f"sleepctl: the room is no longer reserved: {clean(why)}{after}", file=sys.stderr)

    def progress(waiting: Reservation) -> None:
        nonlocal told
        line = _progress(waiting)
        news = _DURATION.sub("", line)
        if news and news != told:
            told = news
            print(f"sleepctl: {line}", file=sys.stderr, flush=True)

    return client.reserve(
        *(options.gpu, options.vram, options.id),
        reason=reason,
        timeout_s=options.timeout,
        on_progress=progress,
        on_lost=lost,
    )


def _progress(waiting: Reservation) -> str:
    """Return what it waits for: "waiting for 60GiB on GPU 0: for chat to fall asleep, 12GiB to go"; nothing where the
    room is there and is only read anew."""
    missing = [gpu["missing_bytes"] for gpu in waiting["gpus"]]
    if waiting["granted"] or not any(size is None or size for size in missing):
        return ""
    to_go = max(size or 0 for size in missing)
    ends = f", {format_size(to_go)} to go" if to_go else ""
    return f"waiting for {_size(waiting)}: for {clean(waiting['waits_for'] or '')}{ends}"


def _size(kept: Reservation) -> str:
    return f"{format_size(kept['bytes_per_gpu'])} on GPU {name_gpus(kept)}"
