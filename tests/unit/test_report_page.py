"""The report as a page: every model and cause is there as a chart and as a table, whatever it is called."""

from html.parser import HTMLParser
from typing import Any

from sleepd.cli.report_page import make_report_page, step_of
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


def timeline(name: str, *runs: tuple[int, str, str], since: str = SINCE, until: str = UNTIL) -> Any:
    states, causes = [state for _, state, _ in runs], [cause for _, _, cause in runs]
    told = [[second, number, number] for number, (second, _, _) in enumerate(runs)]
    gpus = [{"gpu": EVIL, "points": [[0, 60 * GIB], [3600, 2 * GIB]]}]
    body = {"since": since, "until": until, "step_s": 54, "states": states, "causes": causes}
    return {**body, "models": [{"model": name, "runs": told}], "gpus": gpus}


ASLEEP = (0, "asleep 2", f"rule {EVIL}")


def task(name: str, **more: object) -> Any:
    return {"model": name, "kind": "wake", "ended": SINCE, "outcome": EVIL, "done": False, **more}


def test_names_stay_text_wherever_they_come_from() -> None:
    found = Tags(make_report_page(report("chat", EVIL), timeline(EVIL, ASLEEP), [], [task(EVIL)]))
    assert not found.open
    assert "b" not in found.seen
    assert found.told.count(EVIL) >= 8


def test_each_chart_has_a_table_beside_it() -> None:
    found = Tags(make_report_page(report("chat"), timeline("chat", ASLEEP), [], [task("chat")]))
    assert found.seen.count("svg") == found.seen.count("details") == 5
    assert found.seen.count("table") == found.seen.count("svg") + 1
    for told in ("asleep at level 2 for 1d", "12.5 GiB-hours", "4.2s, 95% 9s; 2 wakes", "rule <b", "60GiB"):
        assert told in found.told


def test_nothing_on_record_is_said() -> None:
    found = Tags(make_report_page(report(), None, [], []))
    assert "Nothing is on record for this time" in found.told
    assert "svg" not in found.seen


def test_a_model_for_which_nobody_waited_is_told_so() -> None:
    quiet = report("chat") | {"models": [row("chat", wait_p50_s=None, wait_p95_s=None, waits=0)]}
    assert "nobody waited; 2 wakes" in make_report_page(quiet, timeline("chat"), [], [])


def test_a_run_lasts_until_the_next_and_what_is_not_on_record_is_left_out() -> None:
    runs = ((0, "", ""), (3600, "awake", "request gateway"), (7200, "asleep 1", "rule nap"), (10_800, "failed", ""))
    found = Tags(make_report_page(report("chat"), timeline("chat", *runs), [], []))
    assert "awake for 1h from 2026-01-24 09:00:00Z: request gateway" in found.told
    assert "asleep at level 1 for 1h from 2026-01-24 10:00:00Z: rule nap" in found.told
    assert "failed for 21h from 2026-01-24 11:00:00Z" in found.told
    assert found.told.count("from 2026-01-24 08:00:00Z") == 1, "the description's alone"


def test_only_what_did_not_come_about_is_listed_and_only_of_these_models() -> None:
    tasks = [
        task("chat", done=True),
        task("chat", done=None, ended=None),
        task("other"),
        task("chat", outcome="no room"),
    ]
    page = make_report_page(report("chat"), timeline("chat", ASLEEP), [], tasks)
    assert page.count("<td>wake</td>") == 1
    assert "no room" in page
    assert "What did not come about" not in make_report_page(report("chat"), timeline("chat", ASLEEP), [], tasks[:3])


def test_a_timeline_is_asked_for_as_fine_as_it_is_drawn() -> None:
    assert step_of(report("chat")) == 54
    assert step_of({**report("chat"), "until": SINCE}) == 1
