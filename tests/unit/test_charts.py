"""Charts are well-formed, stand alone, escape what others named, and stay small however much happened."""

import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from sleepd.charts import Area, Bar, Lane, Section, Span, Table, Window, draw_areas, draw_bars, draw_timeline, make_page
from sleepd.charts.timeline import LOOKS, look_of
from sleepd.charts.window import LEFT, RIGHT, WIDTH

SVG = "{http://www.w3.org/2000/svg}"
DAY = Window(1_767_225_600.0, 1_767_225_600.0 + 86_400)
EVIL = "</title><script>alert('1')</script>\x1b[31m\ud800&\""


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def drawn(svg: str, kind: str, class_: str) -> list[ET.Element]:
    return [found for found in parsed(svg).iter(f"{SVG}{kind}") if found.get("class") == class_]


def timeline(*spans: Span, window: Window = DAY) -> str:
    return draw_timeline([Lane("chat", spans)], window, name="t", title="states")


CHARTS: dict[str, Callable[[str], str]] = {
    "timeline": lambda word: draw_timeline(
        [Lane(word, [Span(DAY.since_s, DAY.until_s, word, None, word)])], DAY, name="t", title=word
    ),
    "bars": lambda word: draw_bars([Bar(word, 1.0, word, 2.0)], name="b", title=word, about=word),
    "areas": lambda word: draw_areas([Area(word, [(DAY.since_s, 1.0)], 2.0)], DAY, name="a", title=word),
}


@pytest.mark.parametrize("kind", CHARTS)
def test_whatever_a_name_holds_stays_text(kind: str) -> None:
    root = parsed(CHARTS[kind](EVIL))
    assert not list(root.iter(f"{SVG}script"))
    assert "<script>" in "".join(root.itertext())


@pytest.mark.parametrize("kind", CHARTS)
def test_a_chart_is_an_image_with_a_title_and_a_description(kind: str) -> None:
    root = parsed(CHARTS[kind]("chat"))
    assert root.get("role") == "img"
    told = {child.get("id"): child.text for child in root if child.tag in (f"{SVG}title", f"{SVG}desc")}
    assert list(told) == (root.get("aria-labelledby") or "").split()
    assert all(told.values())


def test_nothing_at_all_is_a_chart_too() -> None:
    for svg in (
        draw_timeline([], DAY, name="t", title="t"),
        draw_bars([Bar("chat", 0.0, "none")], name="b", title="b", about="b"),
        draw_areas([Area("GPU 0", [], 0.0)], DAY, name="a", title="a"),
        draw_timeline([], Window(5.0, 5.0), name="t", title="t"),
        draw_timeline([], Window(0.0, 1e18, elapsed=True), name="t", title="t"),
    ):
        parsed(svg)


def test_a_block_stands_where_its_time_does() -> None:
    half = DAY.since_s + 43_200
    (awake,) = drawn(
        timeline(Span(DAY.since_s, half, "awake", 0), Span(half, half + 3600, "asleep", 2)), "rect", "awake"
    )[:1]
    width = WIDTH - LEFT - RIGHT
    assert float(awake.get("x", "")) == pytest.approx(LEFT)
    assert float(awake.get("width", "")) == pytest.approx(width / 2, abs=0.02)
    assert awake[0].text == "awake for 12h from 2026-01-01 00:00:00Z"


def test_what_is_out_of_the_window_is_not_drawn_and_what_reaches_in_is_cut() -> None:
    before = Span(DAY.since_s - 7200, DAY.since_s - 3600, "failed")
    across = Span(DAY.since_s - 3600, DAY.since_s + 3600, "asleep", 1, "rule nap")
    svg = timeline(before, across)
    assert not drawn(svg, "rect", "failed")
    block = drawn(svg, "rect", "asleep1")[0]
    assert float(block.get("x", "")) == pytest.approx(LEFT)
    assert block[0].text == "asleep at level 1 for 2h from 2025-12-31 23:00:00Z: rule nap"


def test_states_are_told_apart_by_more_than_colour() -> None:
    looks = {look_of("awake", 0), look_of("asleep", 1), look_of("asleep", 2)}
    looks |= {look_of("stopped", None), look_of("failed", None)}
    assert len({look.height for look in looks}) == 5
    assert look_of("a state of tomorrow", None).told == "unknown"
    assert len({look.class_ for look in LOOKS}) == len(LOOKS)


def test_ten_thousand_short_naps_are_a_chart_of_bounded_size() -> None:
    step_s = 86_400 / 20_000
    spans = [
        Span(DAY.since_s + n * step_s, DAY.since_s + (n + 1) * step_s, "asleep" if n % 2 else "awake", n % 2)
        for n in range(20_000)
    ]
    svg = timeline(*spans)
    blocks = drawn(svg, "rect", "awake") + drawn(svg, "rect", "asleep1")
    assert len(blocks) < 2 * WIDTH
    assert "more changes" in svg


@pytest.mark.parametrize("span_s", [1, 59, 3600, 86_400, 7 * 86_400, 30 * 86_400, 2e8])
@pytest.mark.parametrize("elapsed", [False, True])
def test_moments_on_the_axis_are_round_few_and_within(span_s: float, elapsed: bool) -> None:
    window = Window(1_767_226_000.0, 1_767_226_000.0 + span_s, elapsed)
    ticks = list(window.ticks())
    assert 1 <= len(ticks) <= 10
    assert all(window.since_s <= moment <= window.until_s for moment, _ in ticks)
    assert len({label for _, label in ticks}) == len(ticks)


def test_elapsed_time_begins_at_nothing() -> None:
    assert [label for _, label in Window(100.0, 100.0 + 7200, elapsed=True).ticks()][:2] == ["0s", "30m"]


def test_an_area_holds_what_held_before_the_window() -> None:
    svg = draw_areas([Area("GPU 0", [(0.0, 40.0), (DAY.until_s + 9, 80.0)], 80.0)], DAY, name="a", title="held")
    (area,) = drawn(svg, "path", "area")
    assert area.get("d") == "M150.0 64.0H150.0V38.0H944.0V64.0Z"


def test_bars_share_one_scale_that_a_mark_can_reach() -> None:
    svg = draw_bars([Bar("a", 1.0, "1"), Bar("b", 2.0, "2", 4.0)], name="b", title="b", about="b")
    first, second = (float(bar.get("width", "")) for bar in drawn(svg, "rect", "amount"))
    assert second == pytest.approx(2 * first, abs=0.02)
    assert len(drawn(svg, "line", "mark")) == 2


def test_a_page_asks_for_nothing_and_runs_nothing() -> None:
    page = make_page(
        EVIL, [EVIL], [Section(EVIL, EVIL, CHARTS["bars"](EVIL), Table((EVIL, EVIL), [(EVIL, EVIL)])), Section("b")]
    )
    page.encode()
    for forbidden in ("<script", "<link", "<img", "<iframe", " src=", " href=", "url(", "@import", "\x1b"):
        assert forbidden not in page
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
