"""Whom a wake puts to sleep, at which level, over several GPUs and groups; and what younger wishes leave alone."""

from dataclasses import replace

import pytest
from core_worlds import ASLEEP, FACTS, KNOWN_ANSWER, NOW, host, proven, record, world

from sleepd.core.draft import Draft
from sleepd.core.durations import expected_sleep, expected_wake
from sleepd.core.events import Tick
from sleepd.core.explain import reason
from sleepd.core.footprint import Footprint
from sleepd.core.machine import step
from sleepd.core.model import Cause, CauseKind, Group, Known, Settings
from sleepd.core.plan import plan_sleep
from sleepd.core.record import AskKind, Waiter
from sleepd.core.room import MakeRoom, Refuse, WaitFor, room_for
from sleepd.core.seen import GpuSeen
from sleepd.core.task import HOST_LOCK, Task, TaskKind
from sleepd.core.units import GIB
from sleepd.core.victims import EXACT_MODELS

QUICK_TO_WAKE = {"sleep1": (3.0,), "wake1": (2.0,), "sleep2": (0.14,), "wake2": (14.0,)}
"""By published vLLM logs: level 2 sleeps at once and reads its weights anew, level 1 the other way round."""


def sized(bytes_gib: int, *gpus: int, **durations: tuple[float, ...]) -> Footprint:
    freed = {f"GPU-{g}": (bytes_gib * GIB,) for g in gpus or (0,)}
    return Footprint(freed=freed, durations=durations, host_pinned=True)


def on(name: str, *gpus: int, gib: int = 30, spec: dict | None = None, **more):
    placed = {"gpus": tuple(str(g) for g in gpus), **(spec or {})}
    made = record(name, footprint=sized(gib, *gpus), **more)
    return replace(made, spec=replace(made.spec, **placed))


def asleep(name: str, *gpus: int, gib: int = 40, waits_s: float = 1.0, **more):
    waiter = Waiter(1, AskKind.WAKE, Cause(CauseKind.OPERATOR, "x"), NOW.mono_s - waits_s, NOW.mono_s + 600.0)
    return replace(on(name, *gpus, gib=gib, **more), life=ASLEEP, waiters=(waiter,))


def hosted(*records, free: tuple[int, ...] = (1, 1), groups: tuple[Group, ...] = (), age_s: float = 0.1, **more):
    seen_s = NOW.mono_s - age_s
    gpus = tuple(GpuSeen(f"GPU-{i}", i, 80 * GIB, f * GIB) for i, f in enumerate(free))
    made = world(*records, **more)
    settings = Settings(made.settings.models, made.settings.rules, groups)
    return replace(made, gpus=Known(gpus, seen_s, seen_s), settings=settings)


def ask(made, name: str = "t"):
    return room_for(Draft(made, NOW), name, task_id=None, force=False)


def chosen(made, name: str = "t") -> list[tuple[str, int]]:
    found = ask(made, name)
    assert isinstance(found, MakeRoom), found
    return [(o.model, o.level) for o in found.choice.offers]


# --- which ---------------------------------------------------------------------------------------------------------


def test_who_sleeps_and_wakes_faster_makes_room_though_used_more_recently():
    slow = replace(on("slow", 0, gib=45), footprint=sized(45, 0, sleep1=(9.0,), wake1=(9.0,)))
    quick = replace(
        on("quick", 0, gib=45, last_active_s=NOW.mono_s - 10.0), footprint=sized(45, 0, sleep1=(0.5,), wake1=(0.5,))
    )
    assert chosen(hosted(asleep("t", 0), slow, quick)) == [("quick", 1)]


def test_one_dear_neighbour_is_spared_where_two_cheap_ones_do():
    big = replace(on("big", 0), footprint=sized(45, 0, sleep1=(20.0,), wake1=(20.0,)))
    small = [replace(on(n, 0), footprint=sized(21, 0, sleep1=(1.0,), wake1=(1.0,))) for n in ("s1", "s2")]
    assert chosen(hosted(asleep("t", 0), big, *small)) == [("s1", 1), ("s2", 1)]
    less = replace(small[1], footprint=sized(10, 0))
    assert chosen(hosted(asleep("t", 0), big, small[0], less)) == [("big", 1)]


def test_a_higher_priority_sleeps_only_where_the_others_do_not_suffice():
    dear = replace(on("dear", 0, spec={"priority": 5}), footprint=sized(45, 0, sleep1=(0.1,), wake1=(0.1,)))
    cheap = [replace(on(n, 0), footprint=sized(21, 0, sleep1=(30.0,), wake1=(30.0,))) for n in ("c1", "c2")]
    assert chosen(hosted(asleep("t", 0), dear, *cheap)) == [("c1", 1), ("c2", 1)]
    assert chosen(hosted(asleep("t", 0), dear, cheap[0])) == [("dear", 1)]


def test_the_longer_idle_of_equals_sleeps_whatever_they_are_called():
    young, old = on("a", 0, gib=45), on("b", 0, gib=45, last_active_s=NOW.mono_s - 4000.0)
    assert chosen(hosted(asleep("t", 0), young, old)) == [("b", 1)]
    ancient = replace(young, last_active_s=NOW.mono_s - 9000.0)
    assert chosen(hosted(asleep("t", 0), ancient, old)) == [("a", 1)], "beyond half an hour the wake counts alike"


def test_more_than_twelve_are_chosen_from_one_by_one_and_that_is_said():
    crowd = [on(f"m{i:02}", 0, gib=5) for i in range(EXACT_MODELS + 1)]
    made = hosted(asleep("t", 0, gib=20), *crowd)
    found = ask(made)
    assert not found.choice.exact
    assert len(found.choice.offers) == 4
    begun = step(made, [Tick()], NOW).world
    assert "chosen one by one out of 13, too many to try every set" in reason(begun, "t", NOW)


def test_the_cause_of_a_choice_is_told():
    made = hosted(asleep("t", 0), on("b", 0, gib=45))
    assert "waits for b to fall asleep (nobody else could; 1.2s felt)" in reason(
        step(made, [Tick()], NOW).world, "t", NOW
    )


# --- at which level ------------------------------------------------------------------------------------------------


def leveled(idle_s: float, **more):
    """A neighbour that may sleep at either level."""
    of = {"spec": {"max_level": 2}, "fingerprint": KNOWN_ANSWER, "last_active_s": NOW.mono_s - idle_s, **more}
    return proven(hosted(asleep("t", 0), replace(on("b", 0, **of), footprint=sized(45, 0, **QUICK_TO_WAKE))))


def test_a_model_that_was_just_used_keeps_its_weights_in_host_ram():
    assert chosen(leveled(8.0)) == [("b", 1)]


def test_a_slow_first_backup_makes_level_2_the_cheaper_one():
    made = leveled(600.0)
    b = made.models["b"]
    first = replace(b.footprint, host_pinned=False, durations={**QUICK_TO_WAKE, "sleep1_first": (43.0,)})
    assert chosen(replace(made, models={**made.models, "b": replace(b, footprint=first)})) == [("b", 2)]


def test_level_2_is_not_chosen_for_its_cost_where_its_wake_was_never_measured():
    made = leveled(600.0)
    b = made.models["b"]
    guessed = Footprint(freed=b.footprint.freed, durations={"sleep1_first": (43.0,)})
    assert chosen(replace(made, models={**made.models, "b": replace(b, footprint=guessed)})) == [("b", 1)]


def test_backups_that_do_not_fit_together_turn_one_of_them_into_level_2():
    """Two must sleep, with backups of 20 GiB each beside a reserve of 8; one of them may go deeper."""
    small = Footprint(freed={"GPU-0": (21 * GIB,)}, durations={"wake2": (14.0,)})
    shallow = replace(on("b", 0), footprint=small)
    deep = replace(on("c", 0, spec={"max_level": 2}, fingerprint=KNOWN_ANSWER), footprint=small)
    made = proven(hosted(asleep("t", 0), shallow, deep))
    assert sorted(chosen(replace(made, host=host(28 * GIB)))) == [("b", 1), ("c", 2)]
    assert isinstance(ask(replace(made, host=host(27 * GIB))), Refuse)


# --- over several GPUs ---------------------------------------------------------------------------------------------


def test_a_wide_model_takes_room_on_each_gpu_and_everything_is_claimed_in_one_turn():
    made = hosted(asleep("t", 0, 1), on("a", 0, gib=45), on("b", 1, gib=45), on("c", 2), free=(1, 1, 1))
    found = ask(made)
    assert chosen(made) == [("a", 1), ("b", 1)]
    assert found.claims == {"GPU-0", "GPU-1", HOST_LOCK}
    begun = step(made, [Tick()], NOW).world
    assert begun.tasks["t"].claims == found.claims
    assert set(begun.tasks) == {"t", "a"}, "one sleeps after the other"


def test_one_wide_neighbour_is_cheaper_than_one_on_each_gpu_unless_it_is_dear():
    wide = on("w", 0, 1, gib=45)
    pair = [on("a", 0, gib=45), on("b", 1, gib=45)]
    assert chosen(hosted(asleep("t", 0, 1), wide, *pair)) == [("w", 1)]
    dear = replace(wide, footprint=sized(45, 0, 1, sleep1=(60.0,)))
    assert chosen(hosted(asleep("t", 0, 1), dear, *pair)) == [("a", 1), ("b", 1)]


def test_a_narrow_wake_claims_what_its_wide_victim_holds_elsewhere():
    made = hosted(asleep("t", 0), on("w", 0, 1, gib=45))
    assert ask(made).claims == {"GPU-0", "GPU-1", HOST_LOCK}


def moving(name: str, *claims: str) -> Task:
    plan = plan_sleep(1, fingerprint_wanted=False)
    return Task(
        7, name, TaskKind.SLEEP, 1, Cause(CauseKind.RULE, "nap"), plan, 0.0, claims=frozenset(claims), running=True
    )


def test_a_lock_on_another_gpu_of_the_only_victim_is_kept_from_younger_wishes():
    made = hosted(asleep("t", 0), on("w", 0, 1, gib=45), on("other", 1))
    found = ask(replace(made, tasks={"other": moving("other", "GPU-1", HOST_LOCK)}))
    assert found == WaitFor(
        "room: w: a transition is under way", frozenset({"GPU-0", "GPU-1", HOST_LOCK}), briefly=True
    )


@pytest.mark.parametrize(("waits_s", "overtaken"), [(1.0, True), (6.0, False)])
def test_an_old_wish_is_not_starved_of_its_victims_other_gpu_by_younger_ones(waits_s, overtaken):
    """The reading of its own GPU grew old just now, that of the other, where the younger one fits, did not."""
    young = asleep("u", 1, gib=5, waits_s=0.5)
    beside = on("n", 0, gib=1, settled_s=NOW.mono_s - 0.05)
    made = hosted(asleep("t", 0, waits_s=waits_s), on("w", 0, 1, gib=45), beside, young, free=(1, 40))
    begun = step(made, [Tick()], NOW).world.tasks
    assert ("u" in begun) is overtaken
    assert "t" not in begun


# --- in groups -----------------------------------------------------------------------------------------------------

BIG = Group("big", frozenset({"t", "b", "c"}), 2)


def test_a_full_group_gives_a_place_across_gpus_and_its_cheapest_member_sleeps():
    cheap = on("c", 1, last_active_s=NOW.mono_s - 1500.0)
    made = hosted(asleep("t", 0, gib=20), on("b", 0), cheap, free=(40, 40), groups=(BIG,))
    assert chosen(made) == [("c", 1)]
    assert ask(made).claims == {"GPU-0", "GPU-1", HOST_LOCK}


def test_a_member_that_gives_place_and_bytes_at_once_is_chosen_before_two():
    outside = on("x", 0, gib=45, last_active_s=0.0)
    made = hosted(asleep("t", 0), on("b", 0, gib=45), on("c", 1), outside, groups=(BIG,))
    assert chosen(made) == [("b", 1)]


def test_a_place_and_bytes_may_take_two_sleeps():
    made = hosted(asleep("t", 0), on("b", 1), on("c", 1, spec={"pinned": True}), on("x", 0, gib=45), groups=(BIG,))
    assert sorted(chosen(made)) == [("b", 1), ("x", 1)]


def test_a_full_group_of_pinned_members_is_refused_in_numbers():
    kept = [on(n, 1, spec={"pinned": True}) for n in ("b", "c")]
    found = ask(hosted(asleep("t", 0), *kept, free=(70, 1), groups=(BIG,)))
    assert (found.problem, found.wanted, found.found) == ("group_full", "at most 2 awake", "2 awake")
    assert found.detail == ("t cannot be woken: group big has 2 awake already (b: it is pinned; c: it is pinned)")


def test_force_skips_the_bytes_and_not_the_group():
    made = hosted(asleep("t", 0), on("b", 1), on("c", 1), free=(1, 1), groups=(BIG,))
    found = room_for(Draft(made, NOW), "t", task_id=None, force=True)
    assert isinstance(found, MakeRoom)
    assert len(found.choice.offers) == 1


# --- how long ------------------------------------------------------------------------------------------------------


def test_durations_are_the_median_of_what_was_learned_else_by_the_size_of_the_weights():
    learned = record(footprint=Footprint(durations={"sleep1_first": (40.0, 44.0, 90.0), "wake1": (2.0, 9.0)}))
    assert (expected_sleep(learned, 1).seconds, expected_wake(learned, 1).seconds) == (44.0, 2.0)
    fresh = record(footprint=Footprint(), facts=replace(FACTS, checkpoint_bytes=20 * GIB))
    assert [expected_sleep(fresh, level).seconds for level in (1, 2)] == [14.0, 0.2]
    assert [expected_wake(fresh, level).seconds for level in (1, 2)] == [1.4, 20.2]
    assert not expected_wake(fresh, 2).learned
    reloaded = record(footprint=Footprint(durations={"reload": (5.0,)}))
    assert expected_wake(reloaded, 2).seconds == 5.2
    assert expected_wake(reloaded, 2).learned
