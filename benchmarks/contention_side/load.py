"""Who asks for what when: the same requests for every side, and what became of them."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random

SERVICE_S = 4.0
"""A request of 200 tokens at 20 ms a token; the engine batches, so requests beside it do not slow it down."""
STRAY_EVERY_S = 300.0


@dataclass(frozen=True, slots=True)
class Arrival:
    at_s: float
    model: str


@dataclass(slots=True)
class Outcome:
    """What one side made of a load. `waits_s`: until a request was let in, by model; `in_vain`: how many were not."""

    side: str
    waits_s: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    in_vain: Counter[str] = field(default_factory=Counter)
    switches: int = 0

    @property
    def served(self) -> int:
        return sum(map(len, self.waits_s.values()))

    def waits_by_model(self, in_vain_s: float) -> dict[str, list[float]]:
        """Return every wait; one that was in vain counts as this long."""
        models = self.waits_s.keys() | self.in_vain.keys()
        return {model: self.waits_s[model] + [in_vain_s] * self.in_vain[model] for model in models}


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


def strays(rate: float, until_s: float) -> tuple[tuple[str, ...], list[Arrival]]:
    """A busy model, and two more of which each is asked for once in five minutes."""
    names = ("a", "b", "c")
    rates = dict(zip(names, (rate, 1 / STRAY_EVERY_S, 1 / STRAY_EVERY_S), strict=True))
    arrivals = [
        Arrival(at_s, name)
        for name, its_rate in rates.items()
        for at_s in _moments(Random(f"strays {rate} {name}"), its_rate, until_s)
    ]
    return names, sorted(arrivals, key=lambda arrival: arrival.at_s)


def _moments(random: Random, rate: float, until_s: float) -> list[float]:
    at_s, moments = 0.0, []
    while (at_s := at_s + random.expovariate(rate)) < until_s:
        moments.append(at_s)
    return moments
