"""Our own questions never count as use, and users' requests always do: in any order, however late the page tells."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.core.activity import ANSWER_TOKENS, Owed, ask_lost, share_out
from sleepd.core.seen import Activity

NOTHING = Activity()
QUESTION_TOKENS = 24
BOUNDED = settings(max_examples=400, deadline=None, derandomize=True, database=None)


@dataclass(frozen=True)
class Done:
    """One request that ran: what it moved, whose it was, whether its answer reached us, and how it was counted."""

    moved: Activity
    ours: bool = False
    answered: bool = True
    counted_late: bool = False


users = st.builds(
    lambda prompt, said, late: Done(Activity(prompt, said, 1), counted_late=late),
    st.integers(1, 400).filter(lambda n: n != QUESTION_TOKENS),
    st.integers(0, 400),
    st.booleans(),
)
answered = st.builds(
    lambda said, late: Done(Activity(QUESTION_TOKENS, said, 1), ours=True, counted_late=late),
    st.integers(1, ANSWER_TOKENS),
    st.booleans(),
)
lost = st.builds(
    lambda ran, said: Done(Activity(QUESTION_TOKENS * ran, said * ran, ran), ours=True, answered=False),
    st.integers(0, 1),
    st.integers(0, ANSWER_TOKENS),
)


class Page:
    """The counters as they are shown, and as the core takes them in."""

    def __init__(self) -> None:
        self.shown, self.seen, self.owed = NOTHING, NOTHING, Owed()
        self.users, self.told = NOTHING, NOTHING
        self._late = NOTHING

    def run(self, done: Done) -> None:
        if done.counted_late:
            self._late += done.moved
        else:
            self.shown += done.moved
        if not done.ours:
            self.users += done.moved
        elif done.answered:
            self.owed = Owed(self.owed.certain + done.moved, self.owed.possible, self.owed.exact)
        else:
            self.owed = ask_lost(self.owed, QUESTION_TOKENS)

    def look(self, *, caught_up: bool = False) -> Activity:
        if caught_up:
            self.shown, self._late = self.shown + self._late, NOTHING
        users, self.owed = share_out(self.shown - self.seen, self.owed)
        self.seen, self.told = self.shown, self.told + users
        return users


@BOUNDED
@given(st.lists(st.tuples(users | answered, st.booleans()), max_size=12))
def test_what_users_moved_is_told_to_the_last_token_once_the_page_has_caught_up(ran):
    page = Page()
    for done, look in ran:
        page.run(done)
        if look:
            page.look()
    page.look(caught_up=True)
    assert page.told == page.users
    assert page.owed.certain == NOTHING


@BOUNDED
@given(st.lists(answered | lost, max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
def test_our_own_questions_alone_are_never_use(ran, looks):
    page = Page()
    for done, look in zip(ran, looks, strict=False):
        page.run(done)
        if look:
            assert page.look() == NOTHING
    assert page.look(caught_up=True) == NOTHING


@BOUNDED
@given(lost, users, st.booleans())
def test_a_users_request_counts_though_a_lost_question_may_still_run(gone, user, between):
    page = Page()
    page.run(gone)
    if between:
        page.look()
    page.run(user)
    assert page.look(caught_up=True) != NOTHING


@BOUNDED
@given(st.integers(0, ANSWER_TOKENS), st.integers(0, 1))
def test_a_lost_question_that_is_counted_in_pieces_is_ours(said, ended):
    page = Page()
    page.owed = ask_lost(Owed(), QUESTION_TOKENS)
    for piece in (Activity(QUESTION_TOKENS, 0, 0), Activity(0, said, 0), Activity(0, ANSWER_TOKENS - said, ended)):
        page.shown += piece
        assert page.look() == NOTHING
    assert page.owed.possible.any() != bool(ended)
