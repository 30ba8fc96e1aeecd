"""The verbs that only look."""

from __future__ import annotations

import sys
import time

from sleepd.cli.codes import DONE, REFUSED
from sleepd.cli.screen import look_at, print_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from sleepd.client import Client

RESUME_FOR_S = 60.0
"""How long `events` waits for a daemon that went away."""


def show_status(client: Client, options: argparse.Namespace) -> int:
    from sleepd.cli.table import render_status

    reply = client.status()
    if options.json:
        print_text(reply.text)
        return DONE
    body = reply.body
    if options.models:
        from sleepd.cli.choose import match

        chosen = match(options.models, [model["name"] for model in body["models"]])
        body["models"] = [model for model in body["models"] if model["name"] in chosen]
    print("\n".join(render_status(body, look_at(sys.stdout), time.time())))
    return DONE


def show_holds(client: Client, options: argparse.Namespace) -> int:
    from sleepd.cli.choose import match
    from sleepd.cli.holds_table import render_holds

    reply = client.holds()
    if options.json:
        print_text(reply.text)
        return DONE
    found = reply.body["holds"]
    if options.models:
        chosen = match(options.models, [model["name"] for model in client.models().body["models"]])
        found = [hold for hold in found if hold["model"] in chosen]
    print("\n".join(render_holds(found, look_at(sys.stdout), time.time())))
    return DONE


def show_reservations(client: Client, options: argparse.Namespace) -> int:
    from sleepd.cli.reservations_table import render_reservations

    reply = client.reservations()
    if options.json:
        print_text(reply.text)
        return DONE
    print("\n".join(render_reservations(reply.body["reservations"], look_at(sys.stdout), time.time())))
    return DONE


def show_why(client: Client, options: argparse.Namespace) -> int:
    from sleepd.cli.choose import choose
    from sleepd.cli.explanation import tell_explanation

    for index, name in enumerate(choose(client, options)):
        reply = client.explain(name)
        if options.json:
            print_text(reply.text)
        else:
            print("\n".join(([""] if index else []) + tell_explanation(reply.body, look_at(sys.stdout))))
    return DONE


def show_events(client: Client, options: argparse.Namespace) -> int:
    import json
    from fnmatch import fnmatchcase

    from sleepd.cli.prose import tell_event

    screen, follow = look_at(sys.stdout), not options.no_follow
    for event in client.events(options.since, follow=follow, resume_for_s=RESUME_FOR_S if follow else 0.0):
        name = event.get("model")
        if options.models and event["kind"] != "gap" and not any(fnmatchcase(name or "", m) for m in options.models):
            continue
        print(json.dumps(event, ensure_ascii=False) if options.json else tell_event(event, screen), flush=True)
    return DONE


def is_awake(client: Client, options: argparse.Namespace) -> int:
    """Quiet: 0 where every model is awake, 1 where one is not or is unknown."""
    from sleepd.cli.choose import choose

    states = [client.model(name).body["state"] for name in choose(client, options)]
    return DONE if all(state == "awake" for state in states) else REFUSED
