"""The metrics reader on pages of a real vLLM, on look-alikes, and on anything."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sleepd.adapters.vllm_metrics import SERIES, Scrape, read_page
from sleepd.core.seen import Activity, CallCount, ControlCounts, SleepGauge

DATA = Path(__file__).parents[1] / "adapters" / "data"
START_S = 1795199443.25
USED = Activity(prompt_tokens=33, generation_tokens=44, requests_done=6)


def page(name: str) -> bytes:
    return (DATA / f"metrics-{name}.txt").read_bytes()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("awake-fresh", Scrape(0, 0, Activity(), ControlCounts(), SleepGauge.AWAKE, START_S)),
        (
            "asleep-l1",
            Scrape(
                0,
                0,
                USED,
                ControlCounts(CallCount(1, 4), CallCount(2), CallCount(1)),
                SleepGauge.OFFLOADED,
                START_S,
            ),
        ),
        (
            "asleep-l2",
            Scrape(
                0,
                0,
                USED,
                ControlCounts(CallCount(6, 4), CallCount(8), CallCount(1)),
                SleepGauge.DISCARDED,
                START_S,
            ),
        ),
    ],
)
def test_recorded_pages_are_read_to_the_last_number(name: str, wanted: Scrape) -> None:
    assert read_page(page(name)) == wanted


def test_the_order_of_lines_the_last_newline_and_windows_do_not_matter() -> None:
    lines = page("asleep-l1").splitlines()
    wanted = read_page(page("asleep-l1"))
    assert read_page(b"\n".join(reversed(lines))) == wanted
    assert read_page(b"\r\n".join(lines)) == wanted


def test_several_engines_are_summed_and_the_deepest_state_is_told() -> None:
    told = read_page(
        b'vllm:num_requests_running{engine="0"} 1.0\nvllm:num_requests_running{engine="1"} 2.0\n'
        b'vllm:engine_sleep_state{engine="0",sleep_state="awake"} 1.0\n'
        b'vllm:engine_sleep_state{engine="1",sleep_state="weights_offloaded"} 1.0\n'
    )
    assert (told.running, told.gauge) == (3, SleepGauge.OFFLOADED)


@pytest.mark.parametrize(
    "line",
    [
        "# vllm:num_requests_running 7",
        "vllm:num_requests_running_by_lora{a='b'} 7",
        "vllm:num_requests_running_created 7",
        "xvllm:num_requests_running 7",
        'other{text="vllm:num_requests_running 7"} 1',
        " vllm:num_requests_running 7",
    ],
)
def test_look_alikes_are_not_the_series(line: str) -> None:
    assert read_page(line.encode()).running is None


@pytest.mark.parametrize(
    ("number", "wanted"),
    [("3", 3), ("3.0", 3), ("3e0", 3), ("3 1795199443000", 3), ("NaN", None), ("+Inf", None), ("-1", None), ("", None)],
)
def test_numbers_and_what_is_none(number: str, wanted: int | None) -> None:
    assert read_page(f"vllm:num_requests_waiting {number}\nvllm:num_requests_running 1".encode()).waiting == wanted


def test_a_garbled_series_takes_no_other_with_it() -> None:
    told = read_page(page("asleep-l1").replace(b'model_name="tiny-a"} 33.0', b'model_name="tiny-a"} thirty'))
    assert told.activity is None
    assert (told.running, told.control is not None, told.process_start_s) == (0, True, START_S)


def test_a_model_name_may_hold_what_closes_labels() -> None:
    line = rb'vllm:num_requests_running{model_name="a}\" 9 {",engine="0"} 2.0'
    assert read_page(line).running == 2


def test_calls_are_not_countable_without_the_series() -> None:
    assert read_page(b"vllm:num_requests_running 0").control is None
    assert read_page(b"process_start_time_seconds 1.5").control == ControlCounts()
    ungrouped = (
        b'http_requests_total{handler="/sleep",status="200"} 2.0\nhttp_requests_total{handler="/sleep",status="500"} 1'
    )
    assert read_page(ungrouped).control == ControlCounts(sleep=CallCount(2, 1))


@pytest.mark.parametrize(
    ("handler", "counted"),
    [
        ("/weight_checker", ControlCounts(check=CallCount(1))),
        ("/start_draft_weight_update", ControlCounts(update=CallCount(1))),
        ("/resume", ControlCounts(pause=CallCount(1))),
        ("/abort_requests", ControlCounts()),
    ],
)
def test_what_each_route_counts_as(handler: str, counted: ControlCounts) -> None:
    line = f'http_requests_total{{handler="{handler}",method="POST",status="2xx"}} 1.0'
    assert read_page(line.encode()).control == counted


def test_what_is_asked_for_is_what_is_read() -> None:
    text = page("asleep-l1")
    assert all(name.encode() in text for name in SERIES)
    only = b"\n".join(x for x in text.splitlines() if x.split(b"{")[0].split(b" ")[0].decode() in SERIES)
    assert read_page(only) == read_page(text)


@given(st.binary(max_size=400))
def test_no_bytes_raise(noise: bytes) -> None:
    assert isinstance(read_page(noise), Scrape)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(SERIES),
            st.sampled_from(["", "{", "{}", "}", '{handler="/sleep"}', '{handler="/sleep",status="2xx"}', " "]),
            st.text(max_size=12),
        )
    )
)
def test_no_half_right_line_raises(lines: list[tuple[str, str, str]]) -> None:
    told = read_page("\n".join(f"{name}{labels} {rest}" for name, labels, rest in lines).encode())
    assert told.running is None or told.running >= 0
