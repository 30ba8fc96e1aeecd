"""Preflight never oversubscribes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.core.memory import Admitted, Blind, Short, preflight
from sleepd.core.seen import GpuSeen

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
    short = {u: need - left[u] for u, need in needs.items() if need > max(0, left[u])}
    if isinstance(verdict, Admitted):
        assert all(need <= left[u] or need == 0 for u, need in needs.items())
        assert not short
    else:
        assert isinstance(verdict, Short)
        assert verdict.missing == short
        assert verdict.wanted == needs
        assert verdict.free == {u: max(0, left[u]) for u in needs}


@BOUNDED
@given(NEEDS, hosts(), BYTES, NEEDS, BYTES)
def test_preflight_is_no_kinder_with_less_room(needs, gpus, margin, promised, more):
    if isinstance(preflight(needs, gpus, margin + more, promised), Admitted):
        assert isinstance(preflight(needs, gpus, margin, promised), Admitted)
