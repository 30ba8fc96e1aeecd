"""Whose sleep costs everybody who waits least: the cheapest set of sleeps that makes the room, chosen as a whole.

Resources are GPUs, in bytes, and places in groups, in models. Each model offers at most one sleep per level. Exact for
up to twelve models within 20,000 visited nodes (branch and bound); greedy beyond, which the choice says. The cost model
is in docs/room.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

from sleepd.core.units import Bytes, Seconds, format_duration

EXACT_MODELS = 12
NODES = 20_000
_PARTS = 1_000_000
RECENT_S = 600.0
"""A model idle for so long is half as likely to be wanted again soon as one that was just used."""
LEAST_AGAIN = 0.25
"""However long nobody asked: somebody will, and waits for its wake."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One sleep that would make room: what it gives of each resource, what it takes of host RAM, how long it takes, and
    how long the wake takes that must follow some time."""

    model: str
    level: int
    gives: Mapping[str, int]
    priority: int = 0
    idle_s: Seconds = 0.0
    sleep_s: Seconds = 0.0
    wake_s: Seconds = 0.0
    host_bytes: Bytes = 0
    wait_s: Seconds = 0.0
    """Until it has to give up its turn."""

    @property
    def again(self) -> float:
        """How much the wake counts: 1 for a model that was just used, a quarter for one that nobody used for long."""
        return max(LEAST_AGAIN, RECENT_S / (RECENT_S + self.idle_s))

    @property
    def felt_s(self) -> Seconds:
        """Seconds that are felt: now by whoever waits for the room, later by whoever wants this model back."""
        return self.wait_s + self.sleep_s + self.again * self.wake_s


@dataclass(frozen=True, slots=True)
class Choice:
    """Who sleeps, in order. `exact`: no cheaper set would do; else it was put together greedily."""

    offers: tuple[Offer, ...]
    exact: bool = True
    models: int = 0
    """How many could have made room."""
    nodes: int = 0
    """How many partial sets were looked at."""

    @property
    def felt_s(self) -> Seconds:
        return sum(o.felt_s for o in self.offers)


def why_chosen(choice: Choice) -> str:
    """How the choice was made, as a sentence."""
    felt = f"{format_duration(round(choice.felt_s, 1))} felt"
    if choice.models == 1:
        return f"nobody else could; {felt}"
    if not choice.exact:
        return f"chosen one by one out of {choice.models}, too many to try every set; {felt}"
    return f"cheapest of what {choice.models} could give; {felt}"


@dataclass(frozen=True, slots=True)
class _Priced:
    """An offer with its cost as one whole number: see `_price`."""

    offer: Offer
    cost: int
    gives: tuple[int, ...]


_Models: TypeAlias = tuple[tuple[_Priced, ...], ...]
"""The offers of each model, its cheapest first."""


@dataclass(slots=True)
class _Search:
    models: _Models
    """Those that give most for their cost first."""
    by_ratio: tuple[tuple[tuple[int, int, int], ...], ...]
    """For each resource: (cost, amount, model) at best, the cheapest by amount first."""
    best_cost: int | None
    best: tuple[_Priced, ...] | None
    nodes: int = 0
    cut_short: bool = False
    stack: list[_Priced] = field(default_factory=list)


def choose_victims(missing: Mapping[str, int], offers: Sequence[Offer], host_bytes: Bytes) -> Choice | None:
    """Return the cheapest sleeps that together give what is missing and whose backups fit into `host_bytes`; None where
    none do. Does not depend on the order of the offers."""
    models = _by_model(missing, offers, host_bytes)
    if any(_most(models, r) < amount for r, amount in enumerate(missing.values())):
        return None
    wanted = tuple(missing.values())
    greedy = _greedy(models, wanted, host_bytes)
    if len(models) > EXACT_MODELS and greedy is not None:
        return Choice(_in_order(greedy, wanted), False, len(models))
    search = _Search(
        models,
        tuple(_ratios(models, r) for r in range(len(wanted))),
        None if greedy is None else sum(p.cost for p in greedy),
        greedy,
    )
    _visit(search, 0, 0, wanted, host_bytes)
    if search.best is None:
        return None
    return Choice(_in_order(search.best, wanted), not search.cut_short, len(models), search.nodes)


def _by_model(missing: Mapping[str, int], offers: Sequence[Offer], host_bytes: Bytes) -> _Models:
    """The useful offers of each model, priced; the models that give most of what is missing for their cost first."""
    useful = [o for o in offers if o.host_bytes <= host_bytes and any(o.gives.get(r, 0) > 0 for r in missing)]
    useful.sort(key=lambda o: (o.model, o.level))
    priced: dict[str, list[_Priced]] = {}
    for offer, cost in zip(useful, _price(useful), strict=True):
        gives = tuple(max(0, offer.gives.get(r, 0)) for r in missing)
        priced.setdefault(offer.model, []).append(_Priced(offer, cost, gives))
    wanted = tuple(missing.values())
    found = [tuple(sorted(of, key=lambda p: p.cost)) for of in priced.values()]
    return tuple(sorted(found, key=lambda of: (_dearness(of[0], wanted) or 0, of[0].offer.model)))


def _price(offers: Sequence[Offer]) -> list[int]:
    """Each offer's cost as one whole number, so that sums compare as they should, to the last digit.

    What is felt of higher priorities comes first, whatever lower ones would feel; of equal seconds the longer idle
    sleeps. Each is worth more than everything below it together.
    """
    felt = [max(1, round(o.felt_s * 1000)) for o in offers]
    longest_s = max((o.idle_s for o in offers), default=0.0)
    recent = [round(longest_s - o.idle_s) for o in offers]
    ranks = {priority: rank for rank, priority in enumerate(sorted({o.priority for o in offers}))}
    within, above = 1 + sum(recent), 1 + sum(felt)
    return [f * above ** ranks[o.priority] * within + r for o, f, r in zip(offers, felt, recent, strict=True)]


def _most(models: _Models, resource: int) -> int:
    return sum(max(p.gives[resource] for p in of) for of in models)


def _share(gives: Sequence[int], left: Sequence[int]) -> float:
    """How much of what is still missing this gives: 1 for all of one resource."""
    return sum(min(g, want) / want for g, want in zip(gives, left, strict=True) if want > 0)


def _dearness(priced: _Priced, left: Sequence[int]) -> int | None:
    """Cost for each share of what is missing, as a whole number: costs outgrow floats. None: it gives nothing."""
    share = round(_share(priced.gives, left) * _PARTS)
    return priced.cost * _PARTS // share if share else None


def _ratios(models: _Models, resource: int) -> tuple[tuple[int, int, int], ...]:
    """What each model gives of one resource at most, and its cheapest offer's cost: no set is cheaper than these."""
    found = [
        (min(p.cost for p in of), most, index)
        for index, of in enumerate(models)
        if (most := max(p.gives[resource] for p in of)) > 0
    ]
    return tuple(sorted(found, key=lambda f: (Fraction(f[0], f[1]), f[2])))


def _visit(search: _Search, index: int, cost: int, left: tuple[int, ...], host_bytes: Bytes) -> None:
    """Decide about the models from `index` on: each sleeps at one of its levels or stays awake."""
    if search.nodes >= NODES:
        search.cut_short = True
        return
    search.nodes += 1
    if all(want <= 0 for want in left):
        if search.best_cost is None or cost < search.best_cost:
            search.best_cost, search.best = cost, tuple(search.stack)
        return
    least = _least(search, index, left)
    if least is None or (search.best_cost is not None and cost + least >= search.best_cost):
        return
    for priced in search.models[index]:
        if priced.offer.host_bytes <= host_bytes and any(
            g and want > 0 for g, want in zip(priced.gives, left, strict=True)
        ):
            search.stack.append(priced)
            after = tuple(want - g for want, g in zip(left, priced.gives, strict=True))
            _visit(search, index + 1, cost + priced.cost, after, host_bytes - priced.offer.host_bytes)
            search.stack.pop()
    _visit(search, index + 1, cost, left, host_bytes)


def _least(search: _Search, index: int, left: tuple[int, ...]) -> int | None:
    """What the rest costs at least: for the dearest resource alone, the last model counted in part; None: not to be
    had of the models from `index` on."""
    least = 0
    for ratios, wanted in zip(search.by_ratio, left, strict=True):
        want, cost = wanted, 0
        for price, amount, model in ratios if want > 0 else ():
            if model < index:
                continue
            if amount >= want:
                cost += price * want // amount
                want = 0
                break
            cost, want = cost + price, want - amount
        if want > 0:
            return None
        least = max(least, cost)
    return least


def _greedy(models: _Models, wanted: tuple[int, ...], host_bytes: Bytes) -> tuple[_Priced, ...] | None:
    """The better of two sets put together one by one: what gives most for its cost first, and where host RAM is what
    limits, the smallest backups first. None where neither comes to an end."""
    found = [
        _pruned(taken, wanted)
        for thrifty in (False, True)
        if (taken := _gather(models, wanted, host_bytes, thrifty=thrifty)) is not None
    ]
    return min(found, key=lambda taken: sum(p.cost for p in taken), default=None)


def _gather(models: _Models, wanted: tuple[int, ...], host_bytes: Bytes, *, thrifty: bool) -> list[_Priced] | None:
    taken: list[_Priced] = []
    rest, left = list(models), wanted
    while any(want > 0 for want in left):
        best: tuple[tuple[int, int, str, int], _Priced] | None = None
        for of in rest:
            for priced in of:
                dearness = _dearness(priced, left)
                if priced.offer.host_bytes > host_bytes or dearness is None:
                    continue
                backup = priced.offer.host_bytes if thrifty else 0
                key = (backup, dearness, priced.offer.model, priced.offer.level)
                if best is None or key < best[0]:
                    best = key, priced
        if best is None:
            return None
        chosen = best[1]
        taken.append(chosen)
        rest = [of for of in rest if of[0].offer.model != chosen.offer.model]
        left = tuple(want - g for want, g in zip(left, chosen.gives, strict=True))
        host_bytes -= chosen.offer.host_bytes
    return taken


def _pruned(taken: list[_Priced], wanted: tuple[int, ...]) -> tuple[_Priced, ...]:
    """Without those that the others made unnecessary, the dearest first."""
    kept = list(taken)
    for priced in sorted(taken, key=lambda p: (-p.cost, p.offer.model)):
        others = [p for p in kept if p is not priced]
        if all(sum(p.gives[r] for p in others) >= want for r, want in enumerate(wanted)):
            kept = others
    return tuple(kept)


def _in_order(taken: tuple[_Priced, ...], wanted: tuple[int, ...]) -> tuple[Offer, ...]:
    """Who gives most first: should it give more than expected, the last ones are spared."""
    return tuple(p.offer for p in sorted(taken, key=lambda p: (-_share(p.gives, wanted), p.cost, p.offer.model)))
