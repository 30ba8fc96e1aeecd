"""Whose requests moved a server's counters: its users', or our own questions. Exact: a probe never counts as use.

A question that was answered told what it cost. One whose answer was lost may have cost anything up to that: it is
counted as ours where the counters moved as it would have moved them.
"""

from dataclasses import dataclass

from sleepd.core.frozen import replace
from sleepd.core.seen import Activity

NOTHING = Activity()
QUESTION_TOKENS = 128
"""The known question is shorter than this to any tokenizer; its answer is at most `ANSWER_TOKENS` long."""
ANSWER_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Owed:
    """What our questions have moved or may have moved that no look has shown yet.

    `certain`: they were answered, and the page may lag behind. `possible`: at most this much, of a question whose
    answer was lost; its prompt counts as a whole or not at all, where its length is known (`exact`).
    """

    certain: Activity = NOTHING
    possible: Activity = NOTHING
    exact: bool = True


def share_out(moved: Activity, owed: Owed) -> tuple[Activity, Owed]:
    """Split a movement of the counters: (what users moved, what our questions still owe)."""
    if min(moved.prompt_tokens, moved.generation_tokens, moved.requests_done) < 0:
        return moved, Owed()  # counted anew: whatever was owed is in it or never will be
    ours = _least(moved, owed.certain)
    rest, owed = moved - ours, replace(owed, certain=owed.certain - ours)
    if not rest.any() or not owed.possible.any():
        return rest, owed
    lost = _least(rest, owed.possible)
    if lost == rest and owed.exact and rest.prompt_tokens not in (0, owed.possible.prompt_tokens):
        return rest, owed  # shorter than our question: somebody else's
    left = owed.possible - lost
    # Its end was counted, so nothing more of it comes.
    return rest - lost, replace(owed, possible=left if left.requests_done else NOTHING)


def _least(a: Activity, b: Activity) -> Activity:
    return Activity(
        min(a.prompt_tokens, b.prompt_tokens),
        min(a.generation_tokens, b.generation_tokens),
        min(a.requests_done, b.requests_done),
    )


def ask_lost(owed: Owed, prompt_tokens: int | None) -> Owed:
    """What is owed once a question's answer was lost; `prompt_tokens` None: never told by this server."""
    bound = Activity(QUESTION_TOKENS if prompt_tokens is None else prompt_tokens, ANSWER_TOKENS, 1)
    return Owed(owed.certain, owed.possible + bound, exact=prompt_tokens is not None and not owed.possible.any())
