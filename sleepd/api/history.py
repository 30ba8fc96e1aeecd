"""Answers to who asks what happened."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from aiohttp import web

from sleepd import wire
from sleepd.api.call import Call
from sleepd.api.fields import Moment, Number, Text, Token, parse_moment, read_query
from sleepd.api.problems import Problem, respond
from sleepd.history.found import HistoryUnreadable, Span, WrongQuestion
from sleepd.history.rows import HOUR_S

DAY_S, WEEK_S = 86_400.0, 7 * 86_400.0
PAGE_ROWS = 10_000

T = TypeVar("T")

_MODEL = Text("model", "", "only these models: names or globs, with commas between; removed ones too", most=4096)
_TO = Moment("to", "RFC 3339; without: now")
_WHEN = "RFC 3339; without: {} before `to`"

HISTORY_QUERY = (
    _MODEL,
    Moment("from", _WHEN.format("a day")),
    _TO,
    Number("limit", 1000, "rows of each kind at most", least=1, most=PAGE_ROWS, whole=True),
    Token("next", r"|(\d{1,19}-){9}\d{1,19}", "the `next` of the page before"),
)
BUCKETS_QUERY = (
    _MODEL,
    Moment("from", _WHEN.format("a week")),
    _TO,
    Number("step_s", HOUR_S, "how long a step is: whole hours", least=HOUR_S, most=31_536_000, whole=True, step=HOUR_S),
)
TIMELINE_QUERY = (
    _MODEL,
    Moment("from", _WHEN.format("an hour")),
    _TO,
    Number("step_s", 5, "how fine: a span may have 2,000 steps", least=1, most=31_536_000, whole=True),
)
REPORT_QUERY = (_MODEL, Moment("from", _WHEN.format("a week")), _TO)


async def get_history(call: Call) -> web.StreamResponse:
    asked = read_query(call.request.query, HISTORY_QUERY)
    span = _span(call, asked["model"], asked["from"], asked["to"], DAY_S)
    page = await _answer(call.daemon.history.page(span, asked["limit"], asked["next"]))
    return respond(200, wire.history_body(page))


async def get_buckets(call: Call) -> web.StreamResponse:
    asked = read_query(call.request.query, BUCKETS_QUERY)
    span, step_s = _span(call, asked["model"], asked["from"], asked["to"], WEEK_S), asked["step_s"]
    buckets = await _answer(call.daemon.history.buckets(span, step_s))
    return respond(200, wire.buckets_body(buckets, step_s))


async def get_timeline(call: Call) -> web.StreamResponse:
    asked = read_query(call.request.query, TIMELINE_QUERY)
    span = _span(call, asked["model"], asked["from"], asked["to"], HOUR_S)
    timeline = await _answer(call.daemon.history.timeline(span, asked["step_s"]))
    # A week of 200 models is a megabyte: nothing that is decided waits until it is written.
    return await asyncio.to_thread(lambda: respond(200, wire.timeline_body(timeline)))


async def get_report(call: Call) -> web.StreamResponse:
    asked = read_query(call.request.query, REPORT_QUERY)
    span = _span(call, asked["model"], asked["from"], asked["to"], WEEK_S)
    report = await _answer(call.daemon.history.report(span))
    return respond(200, wire.report_body(report, min(span.to_wall_s, max(span.from_wall_s, call.daemon.now().wall_s))))


async def _answer(asked: Awaitable[T]) -> T:
    """Return what history says. Raises Problem."""
    try:
        return await asked
    except WrongQuestion as error:
        raise Problem("invalid", str(error)) from None
    except HistoryUnreadable as error:
        problem = Problem("failed", str(error))
        problem.body["title"] = "there is no history to be had"
        raise problem from None


def _span(call: Call, models: str, from_: str | None, to: str | None, before_s: float) -> Span:
    to_wall_s = parse_moment(to) if to else None
    to_wall_s = call.daemon.now().wall_s + 0.001 if to_wall_s is None else to_wall_s
    from_wall_s = parse_moment(from_) if from_ else None
    from_wall_s = to_wall_s - before_s if from_wall_s is None else from_wall_s
    if from_wall_s >= to_wall_s:
        raise Problem("invalid", "the span is empty", wanted="from before to", found=f"from={from_} to={to}"[:120])
    return Span(from_wall_s, to_wall_s, tuple(word for word in models.split(",") if word))
