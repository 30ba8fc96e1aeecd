"""How long a call may stay unanswered."""

from dataclasses import replace

import pytest
from core_worlds import FACTS, record, world
from measured_worlds import FRESH

from sleepd.core.footprint import Footprint
from sleepd.core.orders import expected_s, step_timeout
from sleepd.core.plan import Verb
from sleepd.core.units import GIB

LARGE = replace(FACTS, checkpoint_bytes=75 * GIB)


@pytest.mark.parametrize(
    ("footprint", "verb", "least_s"),
    [
        # 75 GiB were seen to take 43 s the first time: unanswered is not before ten times that.
        (Footprint(), Verb.SLEEP_L1, 430.0),
        (Footprint(durations={"sleep1": (6.5,)}), Verb.SLEEP_L1, 1300.0),
        (Footprint(durations={"sleep1": (6.5,), "sleep1_first": (60.0,)}), Verb.SLEEP_L1, 600.0),
        (Footprint(host_pinned=True, durations={"sleep1": (6.5,), "sleep1_first": (43.0,)}), Verb.SLEEP_L1, 430.0),
        (Footprint(), Verb.SLEEP_L2, 300.0),
        (Footprint(durations={"wake1": (2.4, 50.0, 1.5)}), Verb.WAKE, 500.0),
        (Footprint(), Verb.WAKE, 300.0),
        (Footprint(), Verb.RELOAD, 1500.0),
        (Footprint(), Verb.FENCE, 60.0),
    ],
)
def test_how_long_a_call_may_stay_unanswered(footprint, verb, least_s):
    of = record("a", footprint=footprint, facts=LARGE)
    found = step_timeout(of, verb, world(of).settings)
    assert found == pytest.approx(least_s, rel=0.1)
    assert found >= 10 * expected_s(of, verb)


def test_a_call_is_waited_for_by_what_calls_like_it_took_and_by_nothing_else():
    """A server that takes ten minutes to start, or two to read its weights, has no slow wakes from host RAM."""
    slow = replace(FRESH, durations={"start": (600.0,), "reload": (120.0,), "wake2": (125.0,), "wake1": (40.0,)})
    of = record("a", footprint=slow)
    settings = world(of).settings
    found = {verb: step_timeout(of, verb, settings) for verb in (Verb.WAKE, Verb.WAKE_WEIGHTS, Verb.RELOAD)}
    assert found == {Verb.WAKE: 400.0, Verb.WAKE_WEIGHTS: 1250.0, Verb.RELOAD: 1250.0}
    assert step_timeout(of, Verb.AWAIT_HEALTH, settings) == 6000.0


def test_a_configured_patience_is_taken_as_it_is():
    of = record("a", facts=LARGE)
    settings = replace(world(of).settings, stuck_after_s=20.0)
    assert step_timeout(of, Verb.SLEEP_L1, settings) == 20.0
