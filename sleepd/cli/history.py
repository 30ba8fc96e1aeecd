"""`sleepctl history` and `sleepctl report`: what happened, as a list, as a trace, and added up."""

from __future__ import annotations

import sys
import time

from sleepd.cli.codes import DONE, REFUSED
from sleepd.cli.screen import clean, look_at, print_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from sleepd.client import Client
    from sleepd.client.answers import Reply
    from sleepd.wire.history_shapes import History, HistoryReport

PAGE_ROWS = 10_000


def show_history(client: Client, options: argparse.Namespace) -> int:
    pages = _pages(client, options)
    if options.json:
        for page in pages:
            print_text(page.text)
        return DONE
    if options.trace is not None:
        return _write_trace(pages, options.trace)
    from sleepd.cli.columns import wall_s
    from sleepd.cli.history_table import render_history

    bodies = [page.body for page in pages]
    now_wall_s = wall_s(client.status().body["now"])
    print("\n".join(render_history(bodies, look_at(sys.stdout), now_wall_s)))
    return DONE


def show_report(client: Client, options: argparse.Namespace) -> int:
    from sleepd.cli.report_table import render_report

    reply = client.report(options.models, since=_ago(options.since))
    if options.html is not None:
        text = _make_page(client, options.models, reply.body)
        if not _write_file(text, options.html):
            return REFUSED
        if not options.json:
            return DONE
    if options.json:
        print_text(reply.text)
        return DONE
    print("\n".join(render_report(reply.body, look_at(sys.stdout))))
    return DONE


def _make_page(client: Client, models: list[str], report: HistoryReport) -> str:
    from sleepd.cli.report_page import make_report_page, step_of

    if not report["models"]:
        return make_report_page(report, None, (), ())
    timeline = client.timeline(models, since=report["since"], until=report["until"], step_s=step_of(report)).body
    return make_report_page(report, timeline, client.status().body["gpus"], client.tasks().body["tasks"])


def _pages(client: Client, options: argparse.Namespace) -> Iterator[Reply[History]]:
    """To the daemon's own now: its clock need not be ours (in `sleepd demo` it is faster)."""
    since = _ago(options.since)
    after: str | None = None
    while True:
        page = client.history(options.models, since=since, limit=PAGE_ROWS, after=after)
        yield page
        after = page.body["next"]
        if after is None:
            return


def _ago(seconds: float) -> str:
    moment = time.gmtime(time.time() - seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment)


def _write_trace(pages: Iterator[Reply[History]], path: str) -> int:
    from sleepd.cli.trace import trace_of

    trace = trace_of([row for page in pages for row in page.body["requests"]])
    if not _write_file(trace.text, path):
        return REFUSED
    where = "" if path == "-" else f" in {clean(path)}"
    print(f"sleepctl: {trace.requests} requests of {trace.models} models{where}", file=sys.stderr)
    if trace.guessed:
        print(f"sleepctl: tokens of {trace.guessed} requests are not known: averages stand for them", file=sys.stderr)
    return DONE


def _write_file(text: str, path: str) -> bool:
    """The text is in the file, packed where its name ends with .gz, or for "-" on stdout; else why not was told."""
    try:
        if path == "-":
            print_text(text.rstrip("\n"))
        elif path.endswith(".gz"):
            import gzip

            with gzip.open(path, "wt", encoding="utf-8") as packed:
                packed.write(text)
        else:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        print(f"sleepctl: {clean(path)} cannot be written: {error.strerror or error}", file=sys.stderr)
        return False
    return True
