"""The precedence of the contract as data: who outranks whom where several want different things of one model."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Rank(IntEnum):
    """Highest first. Nothing overrides what is in use; force overrides everything below it."""

    IN_USE = 0
    """A request is in flight, or the step would not be safe."""
    FORCE = 1
    PIN = 2
    HOLD = 3
    MIN_AWAKE = 4
    """It woke recently, or the last attempt did not work: no rule, neighbour or reservation may, force may."""
    RESERVATION = 5
    KEEP_AWAKE_AGAINST_WAITING = 6
    """A `keep_awake` rule against a waiting request of equal or lower priority."""
    WAITING = 7
    PRESSURE = 8
    KEEP_AWAKE = 9
    IDLE = 10
    WAKE = 11


class Wish(StrEnum):
    AWAKE = "awake"
    SLEEP = "sleep"


@dataclass(frozen=True, slots=True)
class Claim:
    """One wish for one model. `who` is the rule's name, or a sentence: "it is pinned"."""

    rank: Rank
    wish: Wish
    who: str
    level: int = 0
    passes: bool = False
    """It lasts as long as a turn does: requests that run, min_awake, a rest. See core/sharing.py."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What is to become of the model, and the claim that decided it."""

    wish: Wish
    by: Claim
    level: int = 0


def settle(claims: Iterable[Claim]) -> Settled | None:
    """Return what the claims come to, whatever their order; None where nobody claims anything.

    A sleep applies where no claim of its rank or a higher one wants the model awake; among those the deepest wins.
    """
    known = tuple(claims)
    awake = min((c for c in known if c.wish is Wish.AWAKE), key=_order, default=None)
    sleeps = [c for c in known if c.wish is Wish.SLEEP and (awake is None or c.rank < awake.rank)]
    if sleeps:
        deepest = min(sleeps, key=lambda c: (-c.level, *_order(c)))
        return Settled(Wish.SLEEP, deepest, deepest.level)
    return Settled(Wish.AWAKE, awake) if awake is not None else None


def _order(claim: Claim) -> tuple[int, str, int]:
    return (claim.rank, claim.who, claim.level)
