"""Random demand on two to eight models over one to four GPUs, in virtual time: nobody starves, nothing thrashes, and
nobody is put to sleep under a request."""

from collections import Counter
from dataclasses import dataclass, field
from math import ceil
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.core.durations import expected_sleep, expected_wake
from sleepd.core.forecast import come_back_s
from sleepd.core.life import ASLEEP, State
from sleepd.core.record import wakes_asked
from sleepd.core.turn import Note
from sleepd.core.wishes import AT_ONCE_S
from sleepd.gateway.queue import GUESS_S
from sleepd.sim.callers import Fate, Request
from sleepd.sim.scenario.cast import Cast, CastModel
from sleepd.sim.scenario.invariants import EVERY_COMMIT, EVERY_TURN, check
from sleepd.sim.scenario.stage import Stage

PLAYED_S = 600.0
DRAIN_S = 60.0
LOOKS_S = 10.0
"""What looks, readings and records add to a switch: polls are two seconds apart, and a drain may take a few of them."""


@dataclass(slots=True)
class Demand:
    """Requests for one model: so many clients who each ask again after a pause, and how long an answer takes.

    `obeys`: who is told to come back does so when it was told to, as `Retry-After` says it.
    """

    clients: int
    pause_s: float
    takes_s: float
    obeys: bool = False


@dataclass(slots=True)
class Watched:
    """What happened to the models: when each fell asleep, and how long its clients waited."""

    waits_s: dict[str, list[float]]
    """At the gate, each time."""
    served_after_s: dict[str, list[float]]
    """Since it first asked, however often it was told to come back."""
    awaited_since_s: dict[str, float] = field(default_factory=dict)
    """Since when somebody waited behind the wish of each without a break."""
    slept: Counter[str] = field(default_factory=Counter)
    fates: Counter[Fate] = field(default_factory=Counter)


def crowd(seed: int) -> tuple[Cast, dict[str, Demand]]:
    random = Random(seed)
    gpus = random.choice((1, 1, 2, 3, 4))
    names = [f"m{i}" for i in range(random.randint(2, 8))]
    models = tuple(
        CastModel(
            name,
            "0.32.0",
            gpus=tuple(sorted(random.sample(range(gpus), random.choice([n for n in (1, 1, 2, 4) if n <= gpus])))),
            weights_gib=16,
            kv_gib=random.choice((10, 30, 50)),
            min_awake_s=random.choice((0.0, 5.0, 10.0, 30.0, 60.0)),
            max_wait_s=random.choice((20.0, 30.0, 60.0, 120.0, 240.0)),
            priority=random.choice((0, 0, 1, 2, 3)),
        )
        for name in names
    )
    demands = {
        name: Demand(
            random.randint(1, 4),
            random.choice((0.1, 2.0, 40.0)),
            random.choice((0.5, 3.0, 12.0)),
            obeys=random.random() < 0.5,
        )
        for name in names
    }
    group = tuple(random.sample(names, random.randint(2, len(names)))) if random.random() < 0.3 else ()
    awake = random.randint(1, len(group) - 1) if group else 1
    cast = Cast(gpus, ram_gib=2048, models=models, nap_idle_s=3600.0, group=group, group_awake=awake, drain_s=DRAIN_S)
    return cast, demands


def run(cast: Cast, demands: dict[str, Demand]) -> tuple[Stage, Watched]:
    watched = Watched({name: [] for name in demands}, {name: [] for name in demands})

    up = False

    def look(stage: Stage) -> None:
        check(stage, EVERY_TURN)
        check(stage, EVERY_COMMIT)
        for name in demands if up else ():
            check_wish(stage, watched, name, demands)

    def tell(stage: Stage, note: Note) -> None:
        if note.kind == "state" and note.data["to"] == State.FALLING_ASLEEP.value:
            watched.slept[note.model] += 1

    stage = Stage(cast, "a crowd", look, tell)
    stage.start()
    wait_until_up(stage)
    up = True
    watched.slept.clear()
    for name, demand in demands.items():
        for client in range(demand.clients):
            stage.later(client * 0.7, lambda name=name, demand=demand: ask(stage, watched, name, demand))  # type: ignore[misc]
    stage.time.run_until(stage.time.now() + PLAYED_S)
    return stage, watched


def wait_until_up(stage: Stage) -> None:
    while not all(r.life.state in (State.AWAKE, *ASLEEP) for r in stage.daemon.world.models.values()):
        assert stage.time.now() < 900.0, stage.say("a server did not come up")
        stage.time.run_until(stage.time.now() + 5.0)


def ask(stage: Stage, watched: Watched, name: str, demand: Demand, first_s: float | None = None) -> None:
    """One client: its request is answered after `takes_s`; after a pause it asks again, whatever became of it."""
    came_s = stage.time.now()
    asked_s = came_s if first_s is None else first_s

    def ended(fate: Fate, waited_s: float) -> None:
        watched.fates[fate] += 1
        watched.waits_s[name].append(waited_s)
        if fate is Fate.SERVED:
            watched.served_after_s[name].append(came_s + waited_s - asked_s)
            stage.later(demand.pause_s, lambda: ask(stage, watched, name, demand))
        elif demand.obeys:
            stage.later(told_s(stage, name), lambda: ask(stage, watched, name, demand, asked_s))
        else:
            stage.later(demand.pause_s, lambda: ask(stage, watched, name, demand, asked_s))

    stage.callers.send(Request(name, lambda done: stage.later(demand.takes_s, done), ended))


def told_s(stage: Stage, name: str) -> float:
    """The gateway's `Retry-After`."""
    known_s = come_back_s(stage.daemon.world, name, stage.daemon.now())
    return GUESS_S if known_s is None else ceil(max(AT_ONCE_S, known_s))


def check_wish(stage: Stage, watched: Watched, name: str, demands: dict[str, Demand]) -> None:
    """Nobody waits behind a wish for longer than its own patience and one turn of everybody else: the bound of
    docs/turns.md. It outlives clients that give up and come back."""
    record = stage.daemon.world.models[name]
    if not wakes_asked(record):
        watched.awaited_since_s.pop(name, None)
        return
    since_s = watched.awaited_since_s.setdefault(name, stage.daemon.now().mono_s)
    bound_s = 0.75 * record.spec.max_wait_s + sum(turn_s(stage, n, demands[n]) for n in demands if n != name) + LOOKS_S
    waited_s = stage.daemon.now().mono_s - since_s
    assert waited_s <= bound_s, stage.say(f"{name} is wanted for {waited_s:.1f}s, {bound_s:.1f}s at most")


def turn_s(stage: Stage, name: str, demand: Demand) -> float:
    """A turn that somebody waits for the end of, with what ends it."""
    drain_s = min(DRAIN_S, demand.takes_s)
    return max(1.0, stage.models[name].min_awake_s) + drain_s + switch_s(stage, name) + LOOKS_S


def switch_s(stage: Stage, name: str) -> float:
    record = stage.daemon.world.models[name]
    return expected_sleep(record, 1).seconds + expected_wake(record, 1).seconds


def check_turns(seed: int) -> Watched:
    cast, demands = crowd(seed)
    stage, watched = run(cast, demands)
    assert stage.host.refused == 0
    assert watched.fates[Fate.LOST] == 0
    for name, model in stage.models.items():
        # Each sleep ends a turn of min_awake at least: the bound that docs/turns.md tells operators.
        most = 1 + PLAYED_S / (max(1.0, model.min_awake_s) + switch_s(stage, name) / 2)
        assert watched.slept[name] <= most, f"{name} slept {watched.slept[name]} times, {most:.1f} at most"
        check_served(stage, watched, demands, name, cast.group)
    return watched


def check_served(stage: Stage, watched: Watched, demands: dict[str, Demand], name: str, group: tuple[str, ...]) -> None:
    """Nobody waits for longer than its own patience and one turn of everybody else in its room (docs/turns.md), where
    that is shorter than it may wait at all; nor, where it comes back when it was told, from the time that it first
    asked."""
    model = stage.models[name]
    turns_s = sum(turn_s(stage, n, demands[n]) for n in room_of(stage, name, group) - {name})
    bound_s = 0.75 * model.max_wait_s + turns_s + LOOKS_S
    if bound_s < model.max_wait_s:
        late = [w for w in watched.waits_s[name] if w > bound_s]
        assert not late, f"{name} waited for {max(late):.1f}s, {bound_s:.1f}s at most"
    if demands[name].obeys:
        longest_s = max(watched.served_after_s[name], default=0.0)
        assert longest_s <= bound_s, f"{name} was served after {longest_s:.1f}s, {bound_s:.1f}s at most"


def room_of(stage: Stage, name: str, group: tuple[str, ...]) -> set[str]:
    """Who is on its GPUs or in its group, and in the room of those: one that waits for several GPUs keeps them all."""
    room: set[str] = set()
    found = {name}
    while found - room:
        room |= found
        gpus = {gpu for n in room for gpu in stage.models[n].gpus}
        found = {n for n, m in stage.models.items() if gpus & set(m.gpus)} | (
            set(group) if room & set(group) else set()
        )
    return room


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30))
def test_nobody_starves_nothing_thrashes_and_nobody_sleeps_in_use(seed: int) -> None:
    check_turns(seed)


@pytest.mark.parametrize("clients", [1, 3])
def test_two_that_never_rest_share_by_turns(clients: int) -> None:
    """Both are in use at every moment: before there were turns, the second was never served."""
    models = tuple(
        CastModel(name, "0.32.0", (0,), 16, 50, min_awake_s=20.0, max_wait_s=60.0) for name in ("chat", "qwen")
    )
    demands = {m.name: Demand(clients, 0.0, 2.0) for m in models}
    _, watched = run(Cast(1, 512, models, nap_idle_s=3600.0), demands)
    served = {name: len(waits) for name, waits in watched.waits_s.items()}
    assert watched.fates.keys() == {Fate.SERVED}
    assert min(served.values()) > 0.35 * sum(served.values()), served
    # Each turn lasts as long as the other's patience, 30 s: 600 s hold some 18 turns, with drains and switches.
    assert 6 <= min(watched.slept.values()) <= max(watched.slept.values()) <= 10, watched.slept
    assert max(max(waits) for waits in watched.waits_s.values()) < 60.0


def test_one_stray_request_costs_a_busy_model_one_turn() -> None:
    models = tuple(
        CastModel(name, "0.32.0", (0,), 16, 50, min_awake_s=10.0, max_wait_s=120.0) for name in ("busy", "stray")
    )
    demands = {"busy": Demand(4, 0.0, 2.0), "stray": Demand(1, 280.0, 1.0)}
    _, watched = run(Cast(1, 512, models, nap_idle_s=3600.0), demands)
    assert watched.slept["busy"] <= 3, "once for each stray request"
    assert max(watched.waits_s["stray"]) < 120.0
    assert watched.fates.keys() == {Fate.SERVED}


@pytest.mark.parametrize("gpus", [1, 3], ids=["one GPU", "a group on three"])
@pytest.mark.parametrize("priority", [1, 3])
def test_the_least_important_is_served_beside_two_that_never_rest(priority: int, gpus: int) -> None:
    """Both were served again before it, and of its clients, who come back late, nearly all were told to come again,
    though with turns of 20 s those of both take less than half of what they may wait."""
    names = ("b0", "b1", "low")
    models = tuple(
        CastModel(n, "0.32.0", (i % gpus,), 16, 50, min_awake_s=20.0, priority=0 if n == "low" else priority)
        for i, n in enumerate(names)
    )
    demands = {"b0": Demand(2, 0.0, 2.0), "b1": Demand(2, 0.0, 2.0), "low": Demand(1, 77.0, 1.0)}
    stage, watched = run(Cast(gpus, 512, models, nap_idle_s=20.0, group=names if gpus > 1 else ()), demands)
    assert watched.fates.keys() == {Fate.SERVED}
    # Half of max_wait, and two turns of 20 s with what ends them.
    assert 0.0 < max(watched.waits_s["low"]) <= 60.0 + sum(20.0 + 2.0 + switch_s(stage, n) for n in names[:2])


@pytest.mark.parametrize(("others", "max_wait_s", "min_awake_s"), [(2, 20.0, 60.0), (3, 60.0, 120.0)])
def test_who_may_wait_for_less_than_a_turn_and_comes_back_when_told_is_served_in_each_round(
    others: int, max_wait_s: float, min_awake_s: float
) -> None:
    """It came back once the switch was over, to find that another was awake; and a minute later its age was lost. It
    had one turn where the others had 23."""
    busy = [f"b{i}" for i in range(others)]
    models = tuple(
        CastModel(n, "0.32.0", (0,), 16, 50, min_awake_s=min_awake_s, max_wait_s=max_wait_s if n == "brief" else 60.0)
        for n in ("brief", *busy)
    )
    demands = {"brief": Demand(1, 5.0, 1.0, obeys=True)} | {n: Demand(2, 0.0, 2.0) for n in busy}
    stage, watched = run(Cast(1, 512, models, nap_idle_s=3600.0), demands)
    round_s = sum(min_awake_s + 2.0 + switch_s(stage, n) for n in busy)
    assert 0.0 < max(watched.served_after_s["brief"]) <= max_wait_s / 2 + round_s
    assert watched.slept["brief"] >= min(watched.slept[n] for n in busy) - 1


def test_who_may_wait_for_less_than_requests_take_and_comes_back_when_told_is_served() -> None:
    """Whenever it was told to come back at once, the gate that was shut for it let requests in that took as long as
    those that had run: it was never served."""
    brief = CastModel("brief", "0.32.0", (0,), 16, 50, min_awake_s=5.0, max_wait_s=10.0)
    busy = CastModel("busy", "0.32.0", (0,), 16, 50, min_awake_s=5.0, max_wait_s=60.0)
    demands = {"brief": Demand(1, 5.0, 1.0, obeys=True), "busy": Demand(6, 0.0, 25.0)}
    _, watched = run(Cast(1, 512, (brief, busy), nap_idle_s=3600.0, drain_s=DRAIN_S), demands)
    assert watched.slept["brief"] >= 15
    assert 0.0 < max(watched.served_after_s["brief"]) <= 5.0 + 25.0 + LOOKS_S


def test_a_wide_model_has_its_turn_among_narrow_ones_that_never_rest() -> None:
    wide = CastModel("wide", "0.32.0", (0, 1, 2, 3), 16, 50, min_awake_s=10.0, max_wait_s=60.0)
    narrow = [CastModel(f"n{i}", "0.32.0", (i,), 16, 50, min_awake_s=10.0, max_wait_s=60.0) for i in range(4)]
    demands = {"wide": Demand(1, 1.0, 1.0)} | {m.name: Demand(2, 0.0, 1.5) for m in narrow}
    _, watched = run(Cast(4, 1024, (wide, *narrow), nap_idle_s=3600.0), demands)
    assert len(watched.waits_s["wide"]) > 40
    assert max(watched.waits_s["wide"]) < 60.0


def test_pairs_that_fit_stay_together() -> None:
    """Three of a size of which two fit: only one has to give way at a time."""
    models = tuple(CastModel(f"m{i}", "0.32.0", (0,), 16, 18, min_awake_s=10.0, max_wait_s=60.0) for i in range(3))
    demands = {m.name: Demand(2, 0.0, 2.0) for m in models}
    stage, watched = run(Cast(1, 512, models, nap_idle_s=3600.0), demands)
    awake = sum(r.life.state is State.AWAKE for r in stage.daemon.world.models.values())
    assert awake >= 1
    assert watched.fates.keys() == {Fate.SERVED}
    served = [len(waits) for waits in watched.waits_s.values()]
    assert sum(served) > 1.5 * max(served)


def test_without_min_awake_whoever_waited_for_a_wake_is_served_by_it() -> None:
    """Somebody waits for the room at every moment: a model that woke once slept again before anybody was let in."""
    models = tuple(CastModel(f"m{i}", "0.32.0", (0,), 16, 50, min_awake_s=0.0, max_wait_s=120.0) for i in range(3))
    demands = {m.name: Demand(1, 0.5, 2.0) for m in models}
    _, watched = run(Cast(1, 512, models, nap_idle_s=3600.0), demands)
    assert watched.fates.keys() == {Fate.SERVED}
    for name, slept in watched.slept.items():
        assert slept <= len(watched.waits_s[name]) + 1, f"{name} slept {slept} times"
