"""The precedence of the contract: total, the same in any order, and nothing outranks what is in use."""

from hypothesis import given
from hypothesis import strategies as st

from sleepd.core.precedence import Claim, Rank, Wish, settle

claims = st.lists(
    st.builds(
        Claim,
        st.sampled_from(Rank),
        st.sampled_from(Wish),
        st.sampled_from(["a", "b", "c"]),
        st.integers(min_value=1, max_value=2),
    ),
    max_size=8,
)


@given(claims, st.randoms(use_true_random=False))
def test_the_order_of_claims_does_not_matter(made, random):
    shuffled = list(made)
    random.shuffle(shuffled)
    assert settle(made) == settle(shuffled)


@given(claims)
def test_every_set_of_claims_is_settled(made):
    assert (settle(made) is None) is (not made)


@given(claims)
def test_what_was_settled_is_outranked_by_nobody(made):
    settled = settle(made)
    if settled is None:
        return
    against = [c for c in made if c.wish is not settled.wish]
    best = min((c.rank for c in made if c.wish is settled.wish), default=None)
    if settled.wish is Wish.AWAKE:
        assert all(best <= c.rank for c in against)
    else:
        assert all(settled.by.rank < c.rank for c in against)
        applies = [c for c in made if c.wish is Wish.SLEEP and all(c.rank < a.rank for a in against)]
        assert settled.level == max(c.level for c in applies)


@given(claims)
def test_what_is_in_use_never_sleeps(made):
    in_use = Claim(Rank.IN_USE, Wish.AWAKE, "it is in use")
    assert settle([*made, in_use]).wish is Wish.AWAKE


@given(claims)
def test_force_outranks_everything_but_use(made):
    rest = [c for c in made if c.rank > Rank.FORCE]
    assert settle([*rest, Claim(Rank.FORCE, Wish.SLEEP, "root", 1)]).wish is Wish.SLEEP
