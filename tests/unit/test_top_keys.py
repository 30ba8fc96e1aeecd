"""What keys do in `sleepctl top`: which wish is made, and what is asked before one that hurts."""

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.api.route import HOLD_ID
from sleepd.cli.top.keys import DRAIN_S, hold_id, press
from sleepd.cli.top.rows import ORDERS, chosen_model, shown_models
from sleepd.cli.top.view import Browse, Confirm, Fetch, Leave, Pane, SleepMenu, Typing, View, Wish
from tests.unit.top_views import model, status_of, text, view_of


def view(**fields: Any) -> View:
    return view_of(
        status_of(model("chat"), model("embed", state="asleep", level=1), model("code", pinned=True)), **fields
    )


def keys(start: View, *pressed: str) -> tuple[View, list[Any]]:
    """Return what these keys lead to, and all that they want of the daemon."""
    wanted = []
    for key in pressed:
        start, effect = press(start, key)
        wanted += [] if effect is None else [effect]
    return start, wanted


@pytest.mark.parametrize(
    ("pressed", "wish"),
    [
        (["w"], Wish("wake", "chat")),
        (["W", "y"], Wish("wake", "chat", force=True)),
        (["s", "1"], Wish("sleep", "chat")),
        (["s", "enter"], Wish("sleep", "chat")),
        (["s", "2"], Wish("sleep", "chat", 2)),
        (["s", "f", "y"], Wish("sleep", "chat", 1, force=True)),
        (["s", "F", "Y"], Wish("sleep", "chat", 2, force=True)),
        (["p"], Wish("pin", "chat")),
        (["down", "p"], Wish("unpin", "code")),
        (["t"], Wish("start", "chat")),
        (["x", "y"], Wish("stop", "chat")),
        (["r"], Wish("reset", "chat")),
        (["h", "enter"], Wish("hold", "chat", ttl_s=3600.0)),
        (["h", "backspace", "backspace", "9", "0", "m", "enter"], Wish("hold", "chat", ttl_s=5400.0)),
        (["H"], Wish("release", "chat")),
        (["e"], Fetch("explain", "chat")),
        (["enter"], Fetch("explain", "chat")),
        (["d"], Fetch("plan", "chat")),
        (["end", "w"], Wish("wake", "embed")),
        (["q"], Leave()),
        (["f10"], Leave()),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_key_makes_its_wish(pressed: list[str], wish: object) -> None:
    assert keys(view(), *pressed)[1] == [wish]


@pytest.mark.parametrize(
    "pressed", [["x", "n"], ["x", "enter"], ["W", "esc"], ["s", "f", "q"], ["s", "esc"], ["h", "esc"]]
)
def test_what_is_not_confirmed_is_not_wished(pressed: list[str]) -> None:
    after, wanted = keys(view(), *pressed)
    assert wanted == []
    assert after.mode == Browse()


@pytest.mark.parametrize(
    ("busy", "count"), [({"running": 2, "waiting": 1}, "3 requests"), ({"in_flight": 1}, "1 request")]
)
def test_putting_a_busy_model_to_sleep_is_asked_back(busy: dict[str, int], count: str) -> None:
    start = view_of(status_of(model("chat", **busy)))
    asked, wanted = keys(start, "s", "1")
    assert wanted == []
    assert isinstance(asked.mode, Confirm)
    assert f"chat works on {count}. Sleep once they are done, 1m from now at most?" in asked.mode.question
    assert keys(asked, "y")[1] == [Wish("sleep", "chat", 1, drain_s=DRAIN_S)]


def test_what_is_asked_stays_about_the_model_it_was_asked_of() -> None:
    """Meanwhile a status comes in which another model takes the chosen one's place."""
    asked, _ = keys(view(), "x")
    gone = replace(asked, status=status_of(model("other")))
    assert keys(gone, "y")[1] == [Wish("stop", "chat")]
    menu, _ = keys(view(), "s")
    assert menu.mode == SleepMenu("chat")
    assert keys(replace(menu, status=status_of(model("other"))), "1")[1] == [Wish("sleep", "chat")]


def test_a_wrong_duration_is_said_and_can_be_mended() -> None:
    wrong, wanted = keys(view(), "h", "x", "enter")
    assert wanted == []
    assert isinstance(wrong.mode, Typing)
    assert "wanted a duration" in wrong.mode.wrong
    assert keys(wrong, "backspace", "enter")[1] == [Wish("hold", "chat", ttl_s=3600.0)]
    endless = keys(view(), "h", "backspace", "d", "backspace", *"000w", "enter")[0]
    assert isinstance(endless.mode, Typing)
    assert "wanted at most 365d" in endless.mode.wrong


def test_the_choice_follows_its_model_not_its_line() -> None:
    start, _ = keys(view(), "down")
    assert start.chosen == "code"
    more = status_of(model("a-new-one"), model("chat"), model("code"))
    after = replace(start, status=more)
    assert keys(after, "w")[1] == [Wish("wake", "code")]


def test_a_filter_acts_while_it_is_typed() -> None:
    typed, wanted = keys(view(), "/", "c", "o")
    assert [found["name"] for found in shown_models(typed)] == ["code"]
    assert wanted == [], "letters are text, not keys"
    kept, _ = keys(typed, "enter")
    assert keys(kept, "w")[1] == [Wish("wake", "code")]
    assert len(shown_models(keys(kept, "esc")[0])) == 3
    assert [found["name"] for found in shown_models(replace(kept, filter="c*t"))] == ["chat"]
    assert keys(replace(kept, filter="none"), "w", "s", "e", "down", "end")[1] == []


def test_orders_come_in_turn_and_can_be_turned() -> None:
    start = view_of(
        status_of(
            model("a", idle_s=5.0, state="awake"),
            model("b", idle_s=1.0, state="failed", level=None),
            model("c", idle_s=None, state="asleep", level=1, next={"rule": "r", "action": "wake", "in_s": 3.0}),
        ),
        finished={"b": ((0.0, 0), (10.0, 9)), "c": ((0.0, 0), (10.0, 1))},
    )
    orders = {}
    for _ in ORDERS:
        orders[start.sort] = "".join(found["name"] for found in shown_models(start))
        start, _ = keys(start, "o")
    assert orders == {"name": "abc", "state": "bac", "vram": "acb", "idle": "cba", "rate": "bca", "next": "cab"}
    assert start.sort == "name"
    assert [found["name"] for found in shown_models(keys(start, "O")[0])] == ["c", "b", "a"]
    assert text(keys(start, "O")[0])[3].startswith(" NAME↑")


def test_panes_open_and_close() -> None:
    for key, kind in (("?", "help"), ("f1", "help"), ("v", "events")):
        opened, _ = keys(view(), key)
        assert opened.mode == Pane(kind)  # type: ignore[arg-type]
        for close in ("q", "esc", "enter"):
            closed, wanted = keys(opened, close)
            assert (closed.mode, wanted) == (Browse(), [])
    assert keys(view(), "e", "w", "x", "y")[1] == [Fetch("explain", "chat")], "while reading, keys do nothing else"


def test_before_the_first_status_keys_hurt_nobody() -> None:
    assert keys(View(), *"wsxhptred", "down", "end")[1] == []
    assert chosen_model(View()) is None


def test_the_own_hold_is_named_after_who_takes_it() -> None:
    assert hold_id(view(), "chat") == "top-alice-chat"
    strange = view(asked_by="CORP\\älice" * 20)
    long = {hold_id(strange, "m" * 62 + end) for end in "ab"}
    assert len(long) == 2
    assert all(re.fullmatch(HOLD_ID, found) for found in (*long, hold_id(strange, "chat")))


KEYS = st.sampled_from(
    [
        *"wWshHpedtxrvoOqfFyn12/?gGjkab0m*[",
        *("up", "down", "pgup", "pgdn", "home", "end", "enter", "esc", "backspace", "f1"),
    ]
)


@settings(deadline=None, max_examples=60)
@given(st.lists(KEYS, max_size=30), st.integers(0, 3))
def test_any_keys_in_any_order_leave_a_screen_and_wish_only_for_what_is_there(pressed: list[str], count: int) -> None:
    models = [model("chat", running=2), model("embed", state="asleep", level=1), model("code", pinned=True)][:count]
    view = view_of(status_of(*models))
    names = {found["name"] for found in models}
    for key in pressed:
        view, wanted = press(view, key)
        assert len(text(view)) == 24
        if isinstance(wanted, Wish | Fetch):
            assert wanted.model in names
