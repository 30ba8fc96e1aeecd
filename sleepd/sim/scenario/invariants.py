"""What must hold whatever happens: after every turn, after every commit, and once all faults are over.

Each invariant is a function whose first docstring line is its name in reports; it raises AssertionError.
"""

from collections import Counter
from collections.abc import Callable
from math import inf

from sleepd.core.budget import is_given_up
from sleepd.core.groups import takes_place
from sleepd.core.life import ASLEEP, SERVING, SETTLED, State
from sleepd.core.model import CauseKind
from sleepd.core.record import is_pinned, serves
from sleepd.core.task import Phase, TaskKind
from sleepd.sim.scenario.fairness import (
    every_shut_gate_has_somebody_waiting,
    no_gate_is_shut_for_longer_than_a_drain,
    nobody_is_served_again_before_who_is_pressing,
    nobody_sleeps_for_who_left,
)
from sleepd.sim.scenario.forecasts import (
    forecasts_go_in_no_circles,
    nobody_is_put_to_sleep_for_a_wake_ahead,
    sleeps_by_forecast_can_be_paid,
    wakes_ahead_are_foretold_and_can_be_paid,
)
from sleepd.sim.scenario.reserved import (
    grants_are_backed,
    models_leave_what_is_reserved,
    no_wake_takes_what_is_reserved,
    reservations_end,
)
from sleepd.sim.scenario.stage import ANSWERED_LATE_S, Account, Stage

LOOKED_AT_S = 30.0
"""Within this a model that no task moves is looked at."""

Invariant = Callable[[Stage], None]


def gate_open_only_in_a_serving_state(stage: Stage) -> None:
    """a gate is open only while its model is awake and has its turn"""
    for name, record in stage.daemon.world.models.items():
        if stage.daemon.gates.of(name).open:
            assert serves(record), stage.say(f"{name}'s gate is open while {record.life}, {record.yields}")


def claims_are_exclusive(stage: Stage) -> None:
    """one transition per GPU, one per model, one backup at a time"""
    held: set[str] = set()
    for task in stage.daemon.world.tasks.values():
        for claim in task.claims:
            assert claim not in held, stage.say(f"two tasks hold {claim}")
            held.add(claim)


def nobody_is_put_to_sleep_who_is_protected(stage: Stage) -> None:
    """neither rule nor neighbour puts to sleep what is pinned, held, rests after failures or woke recently"""
    world, judged = stage.daemon.world, stage.account.judged
    for name, task in world.tasks.items():
        record = world.models[name]
        if task.id in judged:
            continue
        judged.add(task.id)
        asked = task.cause.kind in (CauseKind.OPERATOR, CauseKind.REQUEST)
        if task.kind is not TaskKind.SLEEP or record.life.state is not State.DRAINING or asked:
            continue
        assert not record.holds, stage.say(f"{name} is put to sleep by {task.cause} while held")
        assert not is_pinned(record), stage.say(f"{name} is put to sleep by {task.cause} while pinned")
        assert not is_given_up(record), stage.say(f"{name} is put to sleep by {task.cause}, and was given up")
        rests_s = record.cooldown_until_s - task.started_s
        assert rests_s <= 0, stage.say(f"{name} is put to sleep by {task.cause}, and rests for {rests_s}s more")
        # The daemon waits until this very sum: a difference of the same floats may fall short of it by an ulp.
        until_s = record.awake_since_s + record.spec.min_awake_s
        early_s = until_s - task.started_s
        assert task.started_s >= until_s, stage.say(f"{name} is put to sleep {early_s}s before its min_awake is over")


def groups_have_a_place_for_who_wakes(stage: Stage) -> None:
    """a wake begins only where each of its groups has a place for it"""
    world, now_s = stage.daemon.world, stage.daemon.now().mono_s
    for name, task in world.tasks.items():
        first = task.running and task.phase is Phase.DO and not task.cursor and not task.attempt
        if task.kind is not TaskKind.WAKE or not first or task.called_s != now_s:
            continue
        for group in world.settings.groups if not task.refusals else ():
            others = [
                n for n in group.models if n != name and takes_place(world.tasks.get(n), world.models[n].life.state)
            ]
            full = name in group.models and len(others) >= group.max_awake
            assert not full, stage.say(f"{name} wakes beside {others}, {group.max_awake} may be awake in {group.name}")


def nobody_in_use_falls_asleep(stage: Stage) -> None:
    """no model falls asleep under a request that its gate let in"""
    for name, record in stage.daemon.world.models.items():
        if record.life.state is State.FALLING_ASLEEP and name not in stage.account.blamed:
            inside = stage.daemon.gates.of(name).in_flight
            assert not inside, stage.say(f"{name} falls asleep under {inside} requests")


def every_caller_is_answered(stage: Stage) -> None:
    """every caller of a daemon that lives is answered, once, within its time"""
    now_s, epoch = stage.time.now(), stage.daemon.tally.deaths
    for (life, waiter), until_s in stage.account.waiting.items():
        late = life == epoch and now_s > until_s + ANSWERED_LATE_S
        assert not late, stage.say(f"caller {waiter} should have had an answer at {until_s:.1f}s")


def open_gates_lead_to_right_answers(stage: Stage) -> None:
    """behind an open gate is an engine that is awake and answers right"""
    for name in stage.models:
        # A slow disk keeps what a look tells until the turn before it is on record.
        if stage.daemon.gates.of(name).open and not stage.is_doubted(name, stage.daemon.decided_s):
            _would_serve(stage, name)


def everything_settles(stage: Stage) -> None:
    """after faults every model settles, and no task is left that cannot end"""
    world, now_s = stage.daemon.world, stage.daemon.now().mono_s
    for name, record in world.models.items():
        task = world.tasks.get(name)
        # A level 2 check or a caller may be under way at any moment; only what cannot end is wrong.
        # A stranger's pause that no page shows (up to 0.16) is found out by questions that nobody answers: three, a
        # minute each, two seconds between them.
        limit_s = 190.0 if stage.account.doubted.get(name) == inf else 120.0
        # What was let go or found again just now is looked at with the next poll.
        young = now_s - task.started_s < limit_s if task else now_s - record.since_s < LOOKED_AT_S
        settled = record.life.state in SETTLED and task is None
        assert settled or young, stage.say(f"{name} did not settle: {record.life} {record.reason} {task}")


def nobody_fails_without_a_cause(stage: Stage) -> None:
    """no model failed that nobody harmed"""
    for name, record in stage.daemon.world.models.items():
        blameless = name not in stage.account.blamed
        assert not (blameless and record.life.state is State.FAILED), stage.say(f"{name} failed: {record.failure}")


def serving_models_answer_right(stage: Stage) -> None:
    """after faults every model that is awake answers right"""
    for name, record in stage.daemon.world.models.items():
        if record.life.state in SERVING and not stage.is_doubted(name):
            _would_serve(stage, name)


def no_allocation_was_refused(stage: Stage) -> None:
    """where nobody interfered, no engine ran out of memory"""
    assert stage.account.blamed or stage.host.refused == 0, stage.say("an out-of-memory reached an engine")


def backups_leave_the_reserve(stage: Stage) -> None:
    """where nobody interfered, backups leave the reserve of host RAM and stay under every cgroup limit"""
    if stage.account.blamed:
        return
    reserve, host = stage.daemon.settings.host_reserve_bytes, stage.host
    assert host.available_bytes >= reserve, stage.say(f"{host.available_bytes} bytes of RAM left, {reserve} reserved")
    for unit in host.units.values():
        for group in unit.with_ancestors():
            over = group.limit_bytes is not None and host.used_bytes(group) > group.limit_bytes
            assert not over, stage.say(f"{group.path} holds {host.used_bytes(group)} of {group.limit_bytes} bytes")


def what_was_learned_is_true(stage: Stage) -> None:
    """of models nobody harmed, what they hold asleep and have pinned is known to the byte"""
    for name, record in stage.daemon.world.models.items():
        server, footprint = stage.servers[name], record.footprint
        engine = server.engine
        asleep = record.life.state in ASLEEP
        if name in stage.account.blamed or engine is None or not asleep or name in stage.daemon.world.tasks:
            continue
        for gpu in stage.host.gpus:
            if gpu.uuid in footprint.asleep:
                held = gpu.held.get(server.pid, 0)
                assert footprint.asleep[gpu.uuid] == held, stage.say(f"{name} holds {held}: {footprint.asleep}")
        pinned = stage.host.pinned.get(server.pid, 0)
        if footprint.host_pinned and server.pid in stage.host.units:
            assert footprint.pinned_bytes == pinned, stage.say(f"{name} pins {pinned}: {footprint.pinned_bytes}")


def _would_serve(stage: Stage, name: str) -> None:
    engine = stage.servers[name].engine
    if engine is not None and engine.exit_status is None:
        snap = engine.snapshot()
        asleep = bool(snap.sleeping_tags) or snap.is_paused
        assert not asleep, stage.say(f"{name}'s gate is open, its engine sleeps: {sorted(snap.sleeping_tags)}")
        assert snap.answers_right, stage.say(f"{name}'s gate is open and it would serve garbage")


EVERY_TURN: tuple[Invariant, ...] = (
    gate_open_only_in_a_serving_state,
    claims_are_exclusive,
    no_wake_takes_what_is_reserved,
    models_leave_what_is_reserved,
    grants_are_backed,
    reservations_end,
    nobody_is_put_to_sleep_who_is_protected,
    groups_have_a_place_for_who_wakes,
    nobody_is_served_again_before_who_is_pressing,
    no_gate_is_shut_for_longer_than_a_drain,
    every_shut_gate_has_somebody_waiting,
    nobody_sleeps_for_who_left,
    wakes_ahead_are_foretold_and_can_be_paid,
    sleeps_by_forecast_can_be_paid,
    nobody_is_put_to_sleep_for_a_wake_ahead,
    forecasts_go_in_no_circles,
)
EVERY_COMMIT: tuple[Invariant, ...] = (
    open_gates_lead_to_right_answers,
    backups_leave_the_reserve,
    what_was_learned_is_true,
    nobody_in_use_falls_asleep,
    every_caller_is_answered,
)
AT_THE_END: tuple[Invariant, ...] = (
    everything_settles,
    nobody_fails_without_a_cause,
    serving_models_answer_right,
    no_allocation_was_refused,
)


def check(stage: Stage, invariants: tuple[Invariant, ...]) -> None:
    """All of them hold now, and the account says that they were looked at."""
    for invariant in invariants:
        invariant(stage)
    stage.account.looks[invariants] += 1


def checked(account: Account) -> Counter[str]:
    """How often each invariant was looked at, by what it says."""
    found = account.checked.copy()
    for invariants, looks in account.looks.items():
        for invariant in invariants:
            found[(invariant.__doc__ or "").strip()] += looks
    return found
