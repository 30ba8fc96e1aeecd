"""Who asks for what when: the same requests for every side, and what became of them."""

from dataclasses import dataclass, field
from random import Random

SERVICE_S = 4.0
"""A request of 200 tokens at 20 ms a token; the engine batches, so requests beside it do not slow it down."""


@dataclass(frozen=True, slots=True)
class Arrival:
    at_s: float
    model: str


@dataclass(slots=True)
class Outcome:
    """What one side made of a load. `waits_s`: until the request was let in; who was turned away waited in vain."""

    side: str
    waits_s: list[float] = field(default_factory=list)
    in_vain_s: list[float] = field(default_factory=list)
    switches: int = 0

    @property
    def asked(self) -> int:
        return len(self.waits_s) + len(self.in_vain_s)

    @property
    def refused_share(self) -> float:
        return len(self.in_vain_s) / max(1, self.asked)


def alternating(rate: float, until_s: float) -> tuple[tuple[str, ...], list[Arrival]]:
    """Two models, asked for by turns: what an agent does that plans with the one and acts with the other."""
    names = ("a", "b")
    moments = _moments(Random(f"alternating {rate}"), rate, until_s)
    return names, [Arrival(at_s, names[n % 2]) for n, at_s in enumerate(moments)]


def zipf(rate: float, until_s: float) -> tuple[tuple[str, ...], list[Arrival]]:
    """Six models; the n-th is asked for 1/n as often as the first."""
    names = tuple("abcdef")
    random = Random(f"zipf {rate}")
    weights = [1 / (n + 1) for n in range(len(names))]
    moments = _moments(random, rate, until_s)
    return names, [Arrival(at_s, random.choices(names, weights)[0]) for at_s in moments]


def _moments(random: Random, rate: float, until_s: float) -> list[float]:
    at_s, moments = 0.0, []
    while (at_s := at_s + random.expovariate(rate)) < until_s:
        moments.append(at_s)
    return moments
