"""Followers: each hears everything, and one that breaks keeps nothing from the others."""

from sleepd.gateway.daemon import Held, HeldEnd
from sleepd.service.followers import Followers


def test_an_error_of_one_is_told_once_and_the_others_hear_on() -> None:
    told: list[str] = []
    heard: list[Held] = []
    followers = Followers(told.append)

    def broken(held: Held) -> None:
        raise ValueError(f"no place for {held.model}")

    followers.waits.add(broken)
    followers.waits.add(heard.append)
    for model in ("a", "b"):
        followers.waits.hear(Held(model, 1.0, HeldEnd.SERVED))
    assert [held.model for held in heard] == ["a", "b"]
    assert len(told) == 1
    assert told[0].startswith("ValueError: no place for a (broken, line ")
