"""The report as a page: every model and cause is there as a chart and as a table, whatever it is called."""

from html.parser import HTMLParser
from typing import Any

from sleepd.cli.report_page import MISSES_LIMIT, Chronicle, make_report_page
from sleepd.core.units import GIB

EVIL = '<b onmouseover="x">&amp;'
SINCE, UNTIL = "2026-01-24T08:00:00Z", "2026-01-25T08:00:00Z"


class Tags(HTMLParser):
    """Which tags there are, how they nest, and the text between them."""

    VOID = frozenset({"meta"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.told = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.told += data


def row(name: str, **more: object) -> dict[str, Any]:
    empty = {"given_back_gib_h": 12.5, "asleep_s": 7200.0, "unmeasured_s": 0.0, "awake_s": 3600.0, "requests": 3}
    waits = {"wakes": 2, "waits": 1, "wait_p50_s": 4.2, "wait_p95_s": 9.0, "refused": 0, "failures": 1}
    return {"name": name, **empty, **waits, "energy_j": None, **more}


def report(*models: str) -> Any:
    by = [row("rule nap"), row(EVIL)]
    rows = [row(name) for name in models]
    return {"since": SINCE, "until": UNTIL, "total": row(""), "models": rows, "by": by if models else [], "gpus": []}


def page_of_history(name: str, misses: int = 1) -> Any:
    state = {"model": name, "state": "asleep", "level": 2, "since": SINCE, "until": None, "by": "rule", "who": EVIL}
    miss = {"model": name, "kind": "wake", "began": SINCE, "result": "failed", "outcome": EVIL}
    vram = [{"minute": SINCE, "gpu": EVIL, "model": None, "held_bytes": 60 * GIB}]
    wakes = [{**miss, "outcome": f"{EVIL} {number}"} for number in range(misses)]
    return {"states": [{**state, "freed_bytes": 46 * GIB}], "vram": vram, "wakes": wakes, "tasks": []}


def chronicle(*pages: Any) -> Chronicle:
    found = Chronicle()
    for page in pages:
        found.take(page)
    return found


def test_names_stay_text_wherever_they_come_from() -> None:
    found = Tags(make_report_page(report("chat", EVIL), chronicle(page_of_history(EVIL)), []))
    assert not found.open
    assert "b" not in found.seen
    assert found.told.count(EVIL) >= 8


def test_each_chart_has_a_table_beside_it() -> None:
    found = Tags(make_report_page(report("chat"), chronicle(page_of_history("chat")), []))
    assert found.seen.count("svg") == found.seen.count("details") == 5
    assert found.seen.count("table") == found.seen.count("svg") + 1
    for told in ("asleep at level 2 for 1d", "frees 46GiB", "12.5 GiB-hours", "4.2s, 95% 9s; 2 wakes", "wake failed"):
        assert told in found.told


def test_nothing_on_record_is_said() -> None:
    found = Tags(make_report_page(report(), chronicle(), []))
    assert "Nothing is on record for this time." in found.told
    assert "svg" not in found.seen


def test_a_model_for_which_nobody_waited_is_told_so() -> None:
    quiet = report("chat") | {"models": [row("chat", wait_p50_s=None, wait_p95_s=None, waits=0)]}
    assert "nobody waited; 2 wakes" in make_report_page(quiet, chronicle(), [])


def test_a_thousand_failures_leave_a_page_that_can_be_read() -> None:
    page = make_report_page(report("chat"), chronicle(*[page_of_history("chat", 100)] * 10), [])
    assert page.count("wake failed") == MISSES_LIMIT
