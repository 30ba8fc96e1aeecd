"""When time alone changes something: a Tick is due then, and not before."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from math import inf
from typing import NamedTuple

from sleepd.core.calendar import Calendar, offset_at
from sleepd.core.change_of_mind import next_turn_s
from sleepd.core.conditions import is_busy, judge, judge_local
from sleepd.core.drain import hurry_moments
from sleepd.core.follow import VERIFY_AFTER_S
from sleepd.core.foresight import Terms, clocks_apart_s, terms_of
from sleepd.core.holds import hold_moments
from sleepd.core.life import ASLEEP, State
from sleepd.core.model import Now, Settings
from sleepd.core.policy import rule_moments
from sleepd.core.record import ModelRecord
from sleepd.core.relief import relief_measured_s
from sleepd.core.reservations import reservation_moments
from sleepd.core.rules import ActionKind, CronDue, During, LocalTime, Rule
from sleepd.core.sharing import lull_ends_s
from sleepd.core.task import Task
from sleepd.core.unanswered import silent_until_s
from sleepd.core.units import MonotonicS, Seconds
from sleepd.core.world import RuleKey, World

WALL_GRAIN_S: Seconds = 1e-5
"""What is foreseen changes by the wall clock, whose floats are so coarse: one local moment comes to slightly different
ones when it is worked out at different times, and whoever asks at the earliest of them is past all."""


def next_deadline(world: World, now: Now) -> MonotonicS | None:
    """The next moment after `now` at which time alone changes something; a Tick is due then."""
    return Deadlines().after(world, now)


class _Kept:
    """A model's moments in order, beside what they came from; `next_s` is the next of them from `from_s` on."""

    __slots__ = ("from_s", "moments_s", "next_s", "record", "task")

    def __init__(self, record: ModelRecord, task: Task | None, moments_s: list[MonotonicS], now_s: MonotonicS) -> None:
        self.record, self.task, self.moments_s = record, task, moments_s
        self.seek(now_s)

    def seek(self, now_s: MonotonicS) -> None:
        self.from_s, following = now_s, bisect_right(self.moments_s, now_s)
        self.next_s = self.moments_s[following] if following < len(self.moments_s) else inf


class _Foreseen(NamedTuple):
    """When what rules make of a model by what is foreseen is to be looked at again, beside what that came from."""

    record: ModelRecord
    terms: Terms | None
    from_s: MonotonicS
    """From when on the moment was the next."""
    moment_s: MonotonicS


class _Ahead:
    """When what is foreseen of models changes: worked out anew where it is past, or a model is not what it was."""

    def __init__(self) -> None:
        self._of: dict[str, _Foreseen] = {}
        self._by: tuple[Settings, Calendar, Seconds | None, Seconds] | None = None

    def moments_s(self, world: World, names: tuple[str, ...], now: Now) -> dict[str, MonotonicS]:
        """The next moment of each of these models of which a rule could act on what is foreseen."""
        self._renew(world, now)
        now_s, found, of = now.mono_s, {}, self._of
        for name in names:
            record, kept = world.models.get(name), of.get(name)
            if record is None:
                continue
            if kept is None or kept.record is not record or not kept.from_s <= now_s < kept.moment_s:
                kept = of[name] = self._anew(kept, record, world, now)
            if kept.moment_s < inf:
                found[name] = kept.moment_s
        return found

    def _anew(self, kept: _Foreseen | None, record: ModelRecord, world: World, now: Now) -> _Foreseen:
        terms = terms_of(record, world, now) if _may_act(record, world.settings) else None
        if terms is None:
            return _Foreseen(record, None, now.mono_s, inf)
        if kept is not None and kept.terms == terms and kept.from_s <= now.mono_s < kept.moment_s:
            # Most looks show nothing that a forecast goes by.
            return kept._replace(record=record)
        return _Foreseen(record, terms, now.mono_s, next_turn_s(terms, world.calendar, now))

    def _renew(self, world: World, now: Now) -> None:
        """Drop everything where rules, the calendar or a clock are not what they were."""
        by = (world.settings, world.calendar, offset_at(world.calendar, now.wall_s), clocks_apart_s(now))
        same = self._by is not None and by[0] is self._by[0] and by[1] is self._by[1] and by[2:] == self._by[2:]
        if not same:
            self._of, self._by = {}, by


class Deadlines:
    """`next_deadline` for one world after another, which looks anew only at models that are not what they were.

    What is kept of a model is kept beside the very values it came from, and counts only as long as the world has these:
    values never change, so it cannot go stale.
    """

    def __init__(self) -> None:
        self._of: dict[str, _Kept] = {}
        self._rules: tuple[Settings | None, Mapping[RuleKey, MonotonicS], Mapping[RuleKey, tuple[MonotonicS, ...]]]
        self._rules = (None, {}, {})
        """What the moments of rules came from."""
        self._local: tuple[LocalTime, ...] = ()
        self._rates: tuple[tuple[Rule, int, str], ...] = ()
        self._foreseen: tuple[str, ...] = ()
        self._ahead = _Ahead()
        self._foreseen_s: dict[str, MonotonicS] = {}
        """When what is foreseen of each model changes, as of the last call."""
        self._nobodys_s: MonotonicS = inf
        self._asked: tuple[World, Now] | None = None
        self._told: MonotonicS | None = None

    def after(self, world: World, now: Now) -> MonotonicS | None:
        """The next moment after `now` at which time alone changes something; a Tick is due then."""
        if self._asked is None or world is not self._asked[0] or now is not self._asked[1]:
            self._asked, self._told = (world, now), self._following(world, now)
        return self._told

    def _following(self, world: World, now: Now) -> MonotonicS | None:
        self._renew(world)
        now_s, tasks, of = now.mono_s, world.tasks, self._of
        first_s = inf
        for name, record in world.models.items():
            task, kept = tasks.get(name), of.get(name)
            if kept is None or kept.record is not record or kept.task is not task:
                kept = of[name] = _Kept(record, task, sorted(_moments(world, record, task)), now_s)
            elif not kept.from_s <= now_s < kept.next_s:
                kept.seek(now_s)
            first_s = min(first_s, kept.next_s)
        self._foreseen_s = self._ahead.moments_s(world, self._foreseen, now) if self._foreseen else {}
        self._nobodys_s = min((s for s in self._of_nobody(world, now) if s > now_s), default=inf)
        first_s = min(first_s, self._nobodys_s, *self._foreseen_s.values())
        return None if first_s == inf else first_s

    def whose(self, moment_s: MonotonicS) -> tuple[str, ...]:
        """The models that the moment which `after` told last belongs to; none where it is not theirs alone."""
        if self._nobodys_s < moment_s + WALL_GRAIN_S:
            return ()
        foreseen = (name for name, foreseen_s in self._foreseen_s.items() if foreseen_s < moment_s + WALL_GRAIN_S)
        known = (name for name, kept in self._of.items() if kept.next_s == moment_s)
        return tuple(dict.fromkeys((*known, *foreseen)))

    def _renew(self, world: World) -> None:
        """Drop what is kept of models whose rules were changed, or acted, or began to hold."""
        settings, *memories = self._rules
        held_since_s, acts = world.memory.held_since_s, world.memory.acts
        if world.settings is not settings:
            self._local, self._rates = _local_times(world.settings), _rates(world.settings)
            self._foreseen, self._of = tuple(world.settings.foreseeing), {}
        else:
            for was, is_ in zip(memories, (held_since_s, acts), strict=True):
                if was is not is_:
                    for _, name in [key for key in was.keys() | is_.keys() if was.get(key) is not is_.get(key)]:
                        self._of.pop(name, None)
        self._rules = world.settings, held_since_s, acts

    def _of_nobody(self, world: World, now: Now) -> Iterator[MonotonicS]:
        """Moments at which something changes for more than one model: in the past, too."""
        yield from reservation_moments(world)
        if _is_waited_for(world):
            yield from (lull_ends_s(r) for r in world.models.values() if r.life.state is State.AWAKE)
        relief = world.memory.relief
        relief_s = None if relief is None else relief_measured_s(relief, world.models, world.settings.rules)
        if relief_s is not None:
            yield relief_s
        yield from self._moving(world, now)

    def _moving(self, world: World, now: Now) -> Iterator[MonotonicS]:
        """Moments that depend on when one asks: by the wall clock, and of windows that move with time."""
        if not self._local and not self._rates:
            return
        judged = [judge_local(condition, world.calendar, now) for condition in self._local]
        judged += [
            judge(rule, index, world.models[name], world, now)
            for rule, index, name in self._rates
            if name in world.models
        ]
        yield from (j.changes_s for j in judged if j.changes_s is not None)


def _is_waited_for(world: World) -> bool:
    """Whether anybody may wait for somebody else's room: only then it matters when a lull ends."""
    if world.tasks or world.reservations:
        return True
    return any(record.waiters or record.start_wanted is not None for record in world.models.values())


def _local_times(settings: Settings) -> tuple[LocalTime, ...]:
    rules = (rule for rules in settings.rules_of.values() for rule in rules if rule.enabled)
    return tuple({c: None for rule in rules for c in rule.conditions if isinstance(c, During | CronDue)})


def _rates(settings: Settings) -> tuple[tuple[Rule, int, str], ...]:
    return tuple(
        (rule, index, name)
        for name, rules in settings.rules_of.items()
        for rule in rules
        if rule.enabled
        for index, _ in rule.rates
    )


def _may_act(record: ModelRecord, settings: Settings) -> bool:
    """Whether time may let a rule act on the model by what is foreseen."""
    if record.life.state not in (State.AWAKE, *ASLEEP) or is_busy(record) or record.holds or record.account is None:
        return False
    foreseeing = settings.foreseeing[record.spec.name]
    if record.life.state in ASLEEP:
        # Nobody is woken, by whatever rule, while one that foresees would put it to sleep at once.
        kinds = {rule.action.kind for rule in settings.rules_of[record.spec.name] if rule.enabled}
        return ActionKind.WAKE in kinds or any(rule.action.kind is not ActionKind.SLEEP for rule in foreseeing)
    return any(rule.action.kind is not ActionKind.WAKE for rule in foreseeing)


def _moments(world: World, record: ModelRecord, task: Task | None) -> Iterator[MonotonicS]:
    """Every moment of the model, those that are past too."""
    for waiter in record.waiters:
        yield waiter.deadline_s
        yield waiter.drain_until_s
    yield from hold_moments(record)
    if task is not None:
        yield from _task_moments(world, record, task)
    yield record.cooldown_until_s
    if record.awaited is not None:
        yield record.awaited.at_s
    if record.yields is not None:
        yield record.yields.until_s
    if record.life.state is State.FOREIGN:
        yield record.hold_down_until_s
    if record.life.state is State.AWAKE:
        if record.unverified and record.fingerprint:
            yield record.awake_since_s + VERIFY_AFTER_S
        yield record.awake_since_s + record.spec.min_awake_s
        if record.spec.prime or record.spec.max_level >= 2:
            # Only these are put to sleep for a quiet moment's sake.
            yield record.last_active_s + record.spec.min_awake_s
        yield record.not_before_s
    elif record.life.state in ASLEEP:
        yield record.not_before_s
    yield from rule_moments(world, record)


def _task_moments(world: World, record: ModelRecord, task: Task) -> Iterator[MonotonicS]:
    if task.resume_s is not None:
        yield task.resume_s
    silent_s = silent_until_s(world.settings, record, task)
    if silent_s is not None:
        yield silent_s
    yield from hurry_moments(task, world.settings.late_drain_s)
