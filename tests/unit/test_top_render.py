"""The screen of `sleepctl top` as text: what stands where, at any size, with any names."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.cli.top.keys import press
from sleepd.cli.top.lines import cells, cut, cut_middle, fold, plain
from sleepd.cli.top.news import PaneCame, StatusCame, take
from sleepd.cli.top.render import render, settle
from sleepd.cli.top.view import Confirm, Fetch, Notice, Pane, SleepMenu, Typing, View, Wish
from tests.unit.api_rig import GPU, WALL_S
from tests.unit.top_views import GIB, lost, model, status, status_of, text, told, view_of

WIDE = "モデル会話 ☕️ e\u0301"


def test_one_screen_of_80_by_24() -> None:
    view = told(view_of(status()), "wake_refused", "wake of embed is refused: no room", "embed")
    view = told(view, "state", "not told: the table shows it")
    assert text(replace(view, chosen="gpt-oss-120b")) == [
        " sleepd 0.1.0, up 1h  4 models: 1 asleep, 1 awake, 1 failed, 1 waking  00:00:00Z",
        "GPU 0  ████████████████████████░░░░░  66GiB of 80GiB, free 13GiB + margin 1GiB",
        "RAM    ████████████░░░░░░░░░░░░░░░░░  212GiB of 512GiB, free 292GiB + reserve 8…",
        " NAME↓        STATE       VRAM               IDLE  REQ/M  NEXT",
        " chat         ◐ waking    ▒▒▒▒▒▒░░       -     3s      -  1 waiting; chat is as…",
        " embed        ○ asleep L1 █▒▒▒▒▒░░    2GiB   2h3m      -  wakes in 4.2s when as…",
        "▶gpt-oss-120b ✗ failed    ▒▒▒▒▒▒░░       -  1m30s      -  wake_refused: POST /w…",
        " qwen3-32b    ● awake     ██████░░   60GiB  4m10s      -  sleep 1 in 50s (nap)",
        "gpt-oss-120b: gpt-oss-120b is as it is because the rig says so, at some length;",
        "POST /wake_up answered 500: CUDA out of memory",
        "EVENTS",
        "00:00:05 wake of embed is refused: no room",
        *[""] * 11,
        "w wake  s sleep  h hold  p pin  e explain  / filter  o order  ? help  q quit",
    ]


def fleet(count: int, **changes: Any) -> Any:
    return status_of(*(model(f"model-{number:02}", **changes) for number in range(count)))


def test_fifty_models_scroll_with_the_one_that_is_chosen() -> None:
    view = view_of(fleet(50))
    for key, seen, where in (
        ("home", "model-00", "1-"),
        ("end", "model-49", "-50 of 50"),
        ("pgup", "model-39", "of 50"),
    ):
        view, _ = press(view, key)
        lines = text(view)
        assert any(line.startswith(f"▶{seen}") for line in lines)
        assert where in lines[3]
        assert sum("model-" in line for line in lines) >= 10


def test_long_and_wide_names_keep_both_ends_and_the_columns_stand() -> None:
    long = "llama-3.1-70b-instruct-awq-production"
    body = status_of(model(long, reason=f"awake: {WIDE}"), model("b"))
    lines = text(told(view_of(body, chosen=long), "hold", f"alice holds it: {WIDE}", "b"))
    assert lines[5].startswith("▶llama-3…uction ● awake")
    assert lines[4].index("● awake") == lines[5].index("● awake")
    assert lines[6].startswith(f"{long}: awake: モデル")
    assert any(WIDE in line for line in lines)
    assert "llama-3.1-70b-…wq-production" in text(view_of(body), 200)[5]


def test_a_terminal_without_unicode_gets_none() -> None:
    body = status_of(model("a", queued=0), model("b", state="asleep", level=1), model("c", state="failed", level=None))
    lines = text(replace(told(view_of(body), "reloaded", f"priority 0 → 1 {WIDE}", None), unicode=False))
    assert all(line.isascii() for line in lines)
    assert "priority 0 ? 1 ??????????" in "".join(lines)
    assert text(replace(view_of(body), unicode=False))[4].startswith(">a    * awake")


def test_what_a_server_says_cannot_harm_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J"
    view = told(view_of(status_of(model("a", reason=evil, failure={"code": evil, "detail": evil}))), "failure", evil)
    assert "\x1b" not in "".join(text(view)) + "".join(text(replace(view, mode=Pane("events"))))


def test_while_the_daemon_is_away_the_last_state_stays_grey_with_since_when() -> None:
    view = lost(lost(view_of(status()), 3.0), 65.0)
    lines = render(view, 80, 24)
    assert plain(lines[0]).startswith(" no answer since 00:00:00Z (1m5s): no daemon at /run/s")
    assert "qwen3-32b" in "".join(map(plain, lines))
    assert {piece.tone for line in lines[1:-1] for piece in line} == {"dim"}
    back = take(view, StatusCame(status(), WALL_S + 70))
    assert text(back)[0].startswith(" sleepd 0.1.0")
    assert "green" in " ".join(piece.tone for line in render(back, 80, 24) for piece in line)


def test_a_filter_that_nothing_matches_says_so() -> None:
    assert "no name has 'zzz' in it; esc shows all" in text(replace(view_of(status()), filter="zzz"))
    assert "no model is configured" in text(view_of(status_of()))


def test_meters_of_eight_gpus_share_lines() -> None:
    body = status()
    body["gpus"] = [{**body["gpus"][0], "index": number, "uuid": f"GPU-{number}"} for number in range(8)]
    assert [line.count("GPU ") for line in text(view_of(body))[1:5]] == [2, 2, 2, 2]
    assert [line.count("GPU ") for line in text(view_of(body), 160)[1:3]] == [4, 4]


def test_more_meters_than_there_is_room_for_leave_the_models_half_of_it() -> None:
    body = {**fleet(9), "notes": ["host RAM cannot be read"]}
    body["gpus"] = [{**body["gpus"][0], "index": number, "uuid": f"GPU-{number}"} for number in range(32)]
    lines = text(view_of(body))
    assert lines[10:12] == ["15 more on a larger screen", "! host RAM cannot be read"]
    assert sum("model-" in line for line in lines) >= 5
    assert not [line for line in text(view_of(body), 200, 50) if "more on a larger" in line]


def test_bars_tell_models_from_others_and_from_jobs() -> None:
    body = status_of(model("a"))
    body["gpus"][0] |= {"free_bytes": 20 * GIB, "reserved_bytes": 10 * GIB}
    line = text(view_of(body))[1]
    assert [line.count(mark) for mark in "█▓▒░"] == [14, 8, 3, 4]
    body["models"][0] |= {"state": "waking", "level": None}
    assert "▓" not in text(view_of(body))[1], "between two states nobody knows whose it is"


def test_a_turn_is_told_while_it_lasts_and_once_it_is_over() -> None:
    turn = {"rule": "its turn", "action": "sleep", "in_s": 7.0}
    assert "sleep in 7s (its turn)" in text(view_of(status_of(model("mine", next=turn))))[4]
    over = model("mine", state="draining", reason="its turn is over: code waits for its room", running=2, queued=1)
    seen = text(view_of(status_of(over)))
    assert seen[4].startswith("▶mine")
    assert {"draining", "40GiB", "busy"} <= set(seen[4].split())
    assert "mine: its turn is over: code waits for its room; running 2, waiting 0;" in seen[5]


def test_what_is_reserved_is_shown_as_reservations_tells_it() -> None:
    view, wanted = press(view_of(status()), "R")
    assert wanted == Fetch("reservations", "")
    assert "asking ..." in text(view)
    assert text(take(view, PaneCame(Fetch("reservations", ""), [])))[1:3] == [
        " reserved for jobs",
        "no GPU memory is reserved",
    ]
    gpus = [{"uuid": GPU, "index": 0}]
    kept = {"id": "job", "gpus": gpus, "bytes_per_gpu": 20 * GIB, "who": "bob (uid 7)", "since": "2026-01-01T00:00:00Z"}
    kept |= {"until": None, "granted": True, "aside": ["chat"], "reason": "nightly", "waits_for": None}
    seen = text(take(view, PaneCame(Fetch("reservations", ""), [kept])))
    assert {"job", "20GiB", "bob", "chat", "nightly"} <= set(seen[3].split())


def test_rates_are_told_once_they_can_be() -> None:
    view = view_of(status_of(model("a", requests_finished=10)))
    assert text(view)[4].split()[6] == "-"
    for second, finished in ((3, 12), (6, 14), (10, 20)):
        view = take(view, StatusCame(status_of(model("a", requests_finished=finished)), WALL_S + second))
    assert text(view)[4].split()[6] == "60"
    restarted = {**status_of(model("a", requests_finished=0)), "since": "2026-01-01T00:00:09.000Z"}
    assert text(take(view, StatusCame(restarted, WALL_S + 11)))[4].split()[6] == "-"


def test_a_refusal_is_told_in_the_api_s_words_until_the_next_key() -> None:
    refused = ("chat: not permitted: you are alice, wake needs operator", "  hint:   ask an admin")
    view = take(view_of(status()), Notice(refused, refused=True))
    assert text(view)[-3:-1] == list(refused)
    view, _ = press(view, "down")
    assert refused[0] not in text(view)


def test_how_far_a_task_is_stands_below_the_table() -> None:
    assert "wake: compare the known answer, step 2 of 2, 3s" in " ".join(
        text(replace(view_of(status()), chosen="chat"))
    )
    body = status()
    body["tasks"][0] |= {"phase": "undo", "step": None, "steps_done": 2, "running_s": 90.0}
    assert "wake (undo): step 2 of 2, 1m30s" in " ".join(text(view_of(body, chosen="chat")))


def test_panes_scroll_to_their_end_and_back() -> None:
    view = view_of(status())
    for number in range(60):
        view = told(view, "state", f"event {number:02}")
    view, _ = press(view, "v")
    assert "event 59" in text(view)[2]
    view = settle(press(view, "end")[0], 80, 24)
    assert "event 00" in text(view)[-2]
    assert "event 01" in text(press(view, "up")[0])[-2]
    assert text(press(view, "esc")[0])[3].startswith(" NAME")


def test_an_explanation_is_shown_as_explain_tells_it() -> None:
    view, _ = press(replace(view_of(status()), chosen="chat"), "e")
    assert "asking ..." in text(view)
    explained = {"model": "chat", "state": "awake", "level": 0, "reason": "awake: why not", "rules": [], "next": None}
    explained |= {"protections": ["pinned"], "verdict": "nothing"}
    view = take(view, PaneCame(Fetch("explain", "chat"), explained))
    assert "chat: awake" in text(view)
    assert "verdict: nothing" in text(view)
    assert take(view, PaneCame(Fetch("explain", "other"), None)) == view
    refused = take(view, PaneCame(Fetch("explain", "chat"), ("no such model: chat",)))
    assert "no such model: chat" in text(refused)


MODES = st.sampled_from(
    [
        View().mode,
        Typing("filter", WIDE),
        Typing("hold", "1h", "wanted a duration"),
        SleepMenu("chat"),
        Confirm(f"really {WIDE * 9}?", Wish("stop", "chat")),
        *(Pane("help"), Pane("events", first=7), Pane("explain", "chat"), Pane("plan", "chat", ("no", WIDE * 30))),
    ]
)


@settings(deadline=None)
@given(
    *(st.integers(1, 220), st.integers(1, 60), MODES, st.integers(0, 60), st.booleans(), st.booleans(), st.booleans())
)
def test_every_line_fits_every_screen(
    width: int, height: int, mode: Any, count: int, unicode: bool, away: bool, noticed: bool
) -> None:
    body = {**fleet(count, reason=WIDE * 5, holds=["a", "b"], pinned=True), "notes": ["GPU memory cannot be read"]}
    view = told(view_of(body, mode=mode, unicode=unicode), "failure", WIDE * 20)
    view = replace(view, notice=Notice((WIDE * 30, "hint"), refused=True)) if noticed else view
    lines = render(settle(lost(view, 9.0, WIDE * 9) if away else view, width, height), width, height)
    assert len(lines) == height
    assert max(cells(plain(line)) for line in lines) <= width


@given(st.text(alphabet="ab -モ会́é", max_size=40), st.integers(2, 30))
def test_text_is_cut_and_folded_by_columns(words: str, width: int) -> None:
    assert cells(cut(words, width)) <= width
    assert cells(cut_middle(words, width)) <= width
    assert all(cells(line) <= width for line in fold(words, width))
    assert "".join(fold(words, width)).replace(" ", "") == words.replace(" ", "")
