"""The worked example in docs/room.md is what the code chooses, to the digit."""

from pathlib import Path

import pytest

from sleepd.core.victims import Offer, choose_victims

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "room.md").read_text()
GIB = 1 << 30
HOLDS = {"GPU-0": 45 * GIB}


def coder(idle_s: float) -> list[Offer]:
    return [Offer("coder", 1, HOLDS, 0, idle_s, 6.0, 4.0), Offer("coder", 2, HOLDS, 0, idle_s, 0.14, 14.0)]


CHAT = Offer("chat", 1, HOLDS, 0, 120.0, 3.0, 2.0)


@pytest.mark.parametrize(
    ("offer", "cells"), [(CHAT, "| 1 | 3.0 s | 2.0 s |"), *zip(coder(2400.0), ("| 1 |", "| 2 |"), strict=True)]
)
def test_each_row_is_what_the_model_costs(offer: Offer, cells: str) -> None:
    (row,) = [line for line in TEXT.splitlines() if line.startswith(f"| {offer.model} ") and cells in line]
    assert f"| {offer.again:.2f} |" in row
    assert f"{offer.felt_s:.2f} s" in row


def test_what_is_chosen_and_what_would_be_had_it_been_used_a_minute_ago() -> None:
    def chosen(idle_s: float) -> tuple[str, int]:
        choice = choose_victims({"GPU-0": 40 * GIB}, [CHAT, *coder(idle_s)], 1 << 62)
        assert choice is not None
        (only,) = choice.offers
        return only.model, only.level

    assert chosen(2400.0) == ("coder", 2)
    shallow, deep = coder(60.0)
    assert f"(again {deep.again:.2f}) it would be {deep.felt_s:.2f} s at level 2 and {shallow.felt_s:.2f} s" in TEXT
    assert chosen(60.0) == ("chat", 1)
