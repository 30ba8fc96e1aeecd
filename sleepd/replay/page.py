"""A replay as a page that stands alone: `sleepd simulate --report`."""

from collections.abc import Mapping, Sequence

from sleepd.charts import Bar, Lane, Section, Span, Table, Window, draw_bars, draw_timeline, make_page
from sleepd.core.units import Seconds
from sleepd.replay.account import Account
from sleepd.replay.outcome import Outcome
from sleepd.replay.tables import COMPARED, HEADS, compared_rows, format_seconds, rows_of, sentences


def make_replay_page(
    accounts: Mapping[str, Account], outcomes: Mapping[str, Outcome], end_s: Seconds, remarks: Sequence[str], what: str
) -> str:
    """Return the page; policies by name, the first is the one that others are compared with."""
    first = next(iter(outcomes.values()))
    sections: list[Section] = []
    if len(outcomes) > 1:
        sections.append(Section("Side by side", table=Table(COMPARED, compared_rows(outcomes))))
    for number, (name, account) in enumerate(accounts.items()):
        of = f" ({name})" if len(accounts) > 1 else ""
        sections.append(_timeline(account, end_s, f"What each model was{of}", f"states-{number}"))
        sections.append(_waits(outcomes[name], f"How long requests waited{of}", f"waits-{number}"))
    return make_page("sleepd simulate", sentences(first, remarks, what), sections)


def _timeline(account: Account, end_s: Seconds, heading: str, name: str) -> Section:
    window = Window(account.from_s, max(end_s, account.from_s + 1.0), elapsed=True)
    lanes = [
        Lane(model, [Span(s.since_s, s.until_s, "asleep" if s.level else "awake", s.level) for s in spans])
        for model, spans in sorted(account.spans.items())
    ]
    about = "Full height: awake, or on its way; half: asleep with the weights in host RAM; less: asleep without."
    return Section(heading, about, draw_timeline(lanes, window, name=name, title=heading))


def _waits(outcome: Outcome, heading: str, name: str) -> Section:
    bars = [
        Bar(
            model,
            row["waiting_s"]["p50"],
            f"{row['waited']} of {row['served']}, {format_seconds(row['waiting_s']['p50'])}",
            row["waiting_s"]["p95"],
        )
        for model, row in sorted(outcome["models"].items())
    ]
    about = "Bar: half of the requests that waited waited no longer; thin line: 95 of 100."
    chart = draw_bars(bars, name=name, title=heading, about=about)
    return Section(heading, about, chart, Table(HEADS, rows_of(outcome)))
