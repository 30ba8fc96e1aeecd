"""A token for the page, and where to take it."""

from __future__ import annotations

import sys

from sleepd.cli.codes import DONE
from sleepd.cli.screen import clean, print_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from sleepd.client import Client


def show_token(client: Client, options: argparse.Namespace) -> int:
    """The first line of stdout is an address that logs in, or the bare token where the daemon knows no address."""
    reply = client.ui_token(role=options.role, ttl_s=options.ttl)
    if options.json:
        print_text(reply.text)
        return DONE
    made = reply.body
    pages = [clean(page) for page in made["pages"]]
    for page in pages or [""]:
        print(f"{page}#token={made['token']}" if page else made["token"])
    many = "; any one of these, once" if len(pages) > 1 else ""
    where = "" if pages else "; type it at /ui of a listener, docs/ui.md"
    print(f"role {made['role']}, good until {made['until']}{many}{where}", file=sys.stderr)
    return DONE
