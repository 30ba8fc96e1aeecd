"""Preflight never oversubscribes, victims suffice when they are said to."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.core.memory import Admitted, Blind, Candidate, Short, choose_victim, preflight
from sleepd.core.model import GpuSeen

BOUNDED = settings(max_examples=400, deadline=None, derandomize=True, database=None)

UUIDS = ("GPU-0", "GPU-1", "GPU-2")
# Small numbers collide at the boundaries, where mistakes live.
BYTES = st.integers(0, 12)


@st.composite
def hosts(draw):
    free = draw(st.lists(BYTES, min_size=1, max_size=3))
    return tuple(GpuSeen(uuid, i, 12, b) for i, (uuid, b) in enumerate(zip(UUIDS, free, strict=False)))


NEEDS = st.dictionaries(st.sampled_from(UUIDS), BYTES, max_size=3)


@BOUNDED
@given(NEEDS, hosts(), BYTES, NEEDS)
def test_preflight_never_oversubscribes(needs, gpus, margin, promised):
    verdict = preflight(needs, gpus, margin, promised)
    free = {g.uuid: g.free_bytes for g in gpus}
    if set(needs) - set(free):
        assert isinstance(verdict, Blind)
        return
    left = {u: free[u] - margin - promised.get(u, 0) for u in needs}
    short = {u: need - max(0, left[u]) for u, need in needs.items() if need > max(0, left[u])}
    if isinstance(verdict, Admitted):
        assert all(need <= left[u] or need == 0 for u, need in needs.items())
        assert not short
    else:
        assert isinstance(verdict, Short)
        assert verdict.missing == short
        assert verdict.wanted == needs
        assert all(verdict.free[u] + verdict.missing[u] == needs[u] for u in short)
        assert all(verdict.free[u] >= 0 for u in verdict.free)


@BOUNDED
@given(NEEDS, hosts(), BYTES, NEEDS, BYTES)
def test_preflight_is_no_kinder_with_less_room(needs, gpus, margin, promised, more):
    if isinstance(preflight(needs, gpus, margin + more, promised), Admitted):
        assert isinstance(preflight(needs, gpus, margin, promised), Admitted)


SHORTS = st.dictionaries(st.sampled_from(UUIDS), st.integers(1, 12), min_size=1, max_size=3).map(
    lambda missing: Short(missing, missing, {})
)
CANDIDATES = st.lists(st.tuples(NEEDS, st.integers(-2, 2), st.integers(0, 5)), max_size=5).map(
    lambda found: [Candidate(f"m{i}", frees, priority, idle) for i, (frees, priority, idle) in enumerate(found)]
)


def _after(short: Short, victim: Candidate) -> Short:
    missing = {u: m - victim.frees.get(u, 0) for u, m in short.missing.items() if m > victim.frees.get(u, 0)}
    return Short(missing, short.wanted, short.free)


@BOUNDED
@given(SHORTS, CANDIDATES)
def test_victims_taken_one_by_one_do_suffice(short, candidates):
    """Where a first victim is named, going on one at a time ends with room; nobody sleeps for nothing."""
    reachable = all(sum(c.frees.get(u, 0) for c in candidates) >= m for u, m in short.missing.items())
    victim = choose_victim(short, candidates)
    assert (victim is not None) is reachable
    left = list(candidates)
    while short.missing:
        victim = choose_victim(short, left)
        if victim is None:
            assert not reachable
            return
        assert any(victim.frees.get(u, 0) > 0 for u in short.missing), "its sleep frees nothing that is missing"
        left.remove(victim)
        short = _after(short, victim)


@BOUNDED
@given(SHORTS, CANDIDATES)
def test_the_victim_is_of_the_lowest_priority_and_the_choice_does_not_depend_on_order(short, candidates):
    victim = choose_victim(short, candidates)
    assert victim == choose_victim(short, candidates[::-1])
    if victim is not None:
        useful = [c for c in candidates if any(c.frees.get(u, 0) for u in short.missing)]
        assert victim.priority == min(c.priority for c in useful)
        equals = [c for c in useful if c.priority == victim.priority and _suffices(short, c)]
        if equals:
            assert _suffices(short, victim)
            assert victim.idle_s == max(c.idle_s for c in equals)


def _suffices(short: Short, candidate: Candidate) -> bool:
    return not _after(short, candidate).missing
