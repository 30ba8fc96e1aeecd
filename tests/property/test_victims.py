"""The cheapest set of sleeps: enough wherever enough can be had, exactly the cheapest where that is claimed."""

from collections.abc import Sequence
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.core.victims import EXACT_MODELS, Choice, Offer, choose_victims

BOUNDED = settings(max_examples=60, deadline=None, derandomize=True, database=None)
GREEDY_FACTOR = 3.0
"""How much dearer than the cheapest set a greedy one may be, as docs/room.md states it."""

RESOURCES = ("GPU-0", "GPU-1", "GPU-2", "GPU-3", "place in group big")
AMOUNTS = st.integers(1, 12)
MISSING = st.dictionaries(st.sampled_from(RESOURCES), AMOUNTS, min_size=1, max_size=4)
HOST = st.sampled_from((0, 8, 16, 1000))


@st.composite
def offers_of(draw: st.DrawFn, name: str, priorities: Sequence[int], levels: Sequence[tuple[int, ...]]) -> list[Offer]:
    gives = draw(st.dictionaries(st.sampled_from(RESOURCES), AMOUNTS, min_size=1, max_size=4))
    priority, idle_s = draw(st.sampled_from(priorities)), draw(st.sampled_from((0.0, 60.0, 600.0, 1e5)))
    sleep_s, wake_s = draw(st.sampled_from((0.2, 1.0, 6.0))), draw(st.sampled_from((0.5, 2.0, 14.0)))
    return [
        Offer(name, level, gives, priority, idle_s, sleep_s / level, wake_s * level, 4 if level == 1 else 0)
        for level in draw(st.sampled_from(levels))
    ]


def crowds(
    most: int,
    *,
    least: int = 0,
    priorities: Sequence[int] = (0, 0, 5),
    levels: Sequence[tuple[int, ...]] = ((1,), (1, 2)),
) -> st.SearchStrategy[list[Offer]]:
    """Offers of this many models, in any order."""
    numbers = st.integers(least, most)
    made = numbers.flatmap(lambda n: st.tuples(*(offers_of(f"m{i}", priorities, levels) for i in range(n))))
    return made.flatmap(lambda of: st.permutations([o for found in of for o in found]))


def suffices(missing: dict[str, int], chosen: Sequence[Offer], host_bytes: int) -> bool:
    enough = all(sum(o.gives.get(r, 0) for o in chosen) >= amount for r, amount in missing.items())
    return enough and sum(o.host_bytes for o in chosen) <= host_bytes


def felt(chosen: Sequence[Offer]) -> tuple[tuple[int, int], ...]:
    """What is felt, in milliseconds: of the highest priority first."""
    ranks = sorted({o.priority for o in chosen}, reverse=True)
    return tuple((rank, sum(max(1, round(o.felt_s * 1000)) for o in chosen if o.priority == rank)) for rank in ranks)


def every_set(offers: Sequence[Offer]) -> list[tuple[Offer, ...]]:
    by_model = {o.model: [x for x in offers if x.model == o.model] for o in offers}
    return [tuple(o for o in pick if o) for pick in product(*([None, *of] for of in by_model.values()))]


def rank_key(chosen: Sequence[Offer], ranks: Sequence[int]) -> tuple[int, ...]:
    at = dict(felt(chosen))
    return tuple(at.get(rank, 0) for rank in ranks)


@BOUNDED
@given(MISSING, crowds(5), HOST)
def test_what_is_chosen_is_enough_and_exactly_the_cheapest(missing, offers, host_bytes):
    choice = choose_victims(missing, offers, host_bytes)
    enough = [c for c in every_set(offers) if suffices(missing, c, host_bytes)]
    assert (choice is not None) is bool(enough)
    if choice is None:
        return
    assert choice.exact
    assert suffices(missing, choice.offers, host_bytes)
    assert len({o.model for o in choice.offers}) == len(choice.offers), "nobody sleeps twice"
    ranks = sorted({o.priority for o in offers}, reverse=True)
    assert rank_key(choice.offers, ranks) == min(rank_key(c, ranks) for c in enough)


@BOUNDED
@given(MISSING, crowds(6), HOST, st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_of_the_offers(missing, offers, host_bytes, random):
    shuffled = random.sample(offers, len(offers))
    assert choose_victims(missing, shuffled, host_bytes) == choose_victims(missing, offers, host_bytes)


@BOUNDED
@given(MISSING, crowds(16, least=EXACT_MODELS + 1), HOST)
def test_a_greedy_choice_is_enough_with_nobody_to_spare(missing, offers, host_bytes):
    choice = choose_victims(missing, offers, host_bytes)
    if choice is None or choice.exact:
        return
    assert suffices(missing, choice.offers, host_bytes)
    for spared in choice.offers:
        assert not suffices(missing, [o for o in choice.offers if o is not spared], host_bytes), "slept for nothing"


def greedy(missing: dict[str, int], offers: Sequence[Offer]) -> Choice | None:
    """The same crowd among so many bystanders that it is chosen from greedily; they give next to nothing, dearly."""
    first = next(iter(missing))
    idle = [Offer(f"z{i}", 1, {first: 1}, priority=9, sleep_s=900.0) for i in range(EXACT_MODELS + 1)]
    return choose_victims(missing, [*offers, *idle], 1000)


@BOUNDED
@given(MISSING, crowds(6, priorities=(0,), levels=((1,),)))
def test_a_greedy_choice_costs_at_most_the_stated_factor_of_the_cheapest(missing, offers):
    cheapest = choose_victims(missing, offers, 1000)
    if cheapest is None:
        return
    found = greedy(missing, offers)
    assert found is not None
    assert not found.exact
    assert found.felt_s <= GREEDY_FACTOR * cheapest.felt_s
