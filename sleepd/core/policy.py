"""What rules want of a model, and what else is claimed of it."""

from collections.abc import Iterator
from dataclasses import dataclass

from sleepd.core.budget import given_up_refusal
from sleepd.core.conditions import due_s, is_busy
from sleepd.core.detector import Evaluated, evaluate, evaluate_all
from sleepd.core.dialect import level1_unsafe, level2_unsafe
from sleepd.core.foresight import paying_level
from sleepd.core.frozen import replace
from sleepd.core.host_room import backup_refusal
from sleepd.core.known_answer import NEVER_TAKEN, UPDATED, has_other_weights, may_take_answer
from sleepd.core.life import Life, State, Weights
from sleepd.core.limits import limit_of
from sleepd.core.model import Mode, Now
from sleepd.core.precedence import Claim, Rank, Settled, Wish, settle
from sleepd.core.record import AskKind, ModelRecord, gate_hold_id, is_pinned, is_used_since_wake
from sleepd.core.restarts import unit_refusal
from sleepd.core.rules import ActionKind, GpuFreeBelow, MemoryCondition, Rule, RuleClass
from sleepd.core.sharing import lull_ends_s
from sleepd.core.units import HOUR_S, MonotonicS, format_duration
from sleepd.core.world import World, proof_key

NO_ANSWER_YET = "no known answer was taken yet"
NOT_CHECKED = "its level 2 cycle was not checked yet"
STOP_LEVEL = 3
"""What `stop` counts as among the levels of sleep that rules want: deeper than any."""

_RANKS = {
    RuleClass.PRESSURE: Rank.PRESSURE,
    RuleClass.KEEP_AWAKE: Rank.KEEP_AWAKE,
    RuleClass.IDLE: Rank.IDLE,
    RuleClass.WAKE: Rank.WAKE,
}


@dataclass(frozen=True, slots=True)
class Want:
    """What the rules want of a model: sleep at `level` (0: awake), because of `rule`."""

    model: str
    level: int
    rule: Rule
    rank: Rank


def is_ram_pressure(rule: Rule) -> bool:
    """Whether the rule answers a shortage of host RAM, which no sleep gives back: see `_rule_claims`."""
    memory = [c for c in rule.conditions if isinstance(c, MemoryCondition)]
    return any(not isinstance(c, GpuFreeBelow) for c in memory)


def acting(
    record: ModelRecord, world: World, now: Now, found: tuple[Evaluated, ...] | None = None
) -> tuple[Evaluated, ...]:
    """The rules that hold for the model and are not kept from acting by limits of their own.

    `found`: what `evaluate_all` said of it in this moment, where that is known already.
    """
    name = record.spec.name
    found = evaluate_all(record, world, now) if found is None else found
    return tuple(e for e in found if e.holds and limit_of(e.rule, name, world, now) is None)


def want_of(
    world: World, record: ModelRecord, now: Now, rules: tuple[Evaluated, ...] | None = None
) -> tuple[Want | None, str]:
    """What the rules among themselves want of this awake model: (want, "") or (None, why they may do nothing).

    Whatever protects the model outranks them all: see `protecting`.
    """
    found = acting(record, world, now, rules)
    claims = list(_rule_claims(world, record, found, now))
    settled = settle(claims)
    if settled is None or settled.wish is Wish.AWAKE:
        return None, _stays_by_rule(settled, claims)
    level, refusal = level_for(world, record, settled.level)
    if level == 0:
        return None, refusal
    by = settled.by
    if level < settled.level:
        # Not as deep as wanted: named is the rule that wants at least this, should there be one that applies.
        shallower = settle(c for c in claims if c.wish is Wish.AWAKE or c.level <= level)
        by = shallower.by if shallower is not None and shallower.wish is Wish.SLEEP else by
    rule = next(e.rule for e in found if e.rule.name == by.who)
    return Want(record.spec.name, level, rule, by.rank), ""


def _stays_by_rule(settled: Settled | None, claims: list[Claim]) -> str:
    """Why it stays awake where a rule keeps it so against a rule that wants it asleep; else nothing to tell."""
    if settled is None or settled.by.rank is not Rank.KEEP_AWAKE or all(c.wish is Wish.AWAKE for c in claims):
        return ""
    return f"rule {settled.by.who} keeps it awake"


def wake_wanted(world: World, record: ModelRecord, now: Now, rules: tuple[Evaluated, ...] | None = None) -> Want | None:
    """What the rules want of this sleeper: a wake, unless a rule that outranks it would undo it at once."""
    found = acting(record, world, now, rules)
    wakes = [e.rule for e in found if e.rule.action.kind is ActionKind.WAKE]
    if not wakes:
        return None
    woken = _woken(record, now)
    then = [evaluate(r, woken, world, now) for r in world.settings.rules_of[record.spec.name] if r.enabled]
    sleeps = tuple(e for e in then if e.holds and e.rule.action.kind is ActionKind.SLEEP)
    against = [Claim(_RANKS[e.rule.kind], Wish.SLEEP, e.rule.name, e.rule.action.level) for e in sleeps]
    keeps = tuple(e for e in found if e.rule.action.kind is not ActionKind.SLEEP)
    settled = settle([*against, *_rule_claims(world, record, keeps, now)])
    if settled is None or settled.wish is Wish.SLEEP:
        return None
    return Want(record.spec.name, 0, wakes[0], _RANKS[wakes[0].kind])


def _rule_claims(world: World, record: ModelRecord, found: tuple[Evaluated, ...], now: Now) -> Iterator[Claim]:
    """What the rules that act claim of an awake model.

    Host RAM comes back from no sleep, so a rule on it puts nothing to sleep by itself: a model that an idle rule wants
    asleep sleeps at level 2 instead where that is allowed and proven.
    """
    due = any(e.rule.kind is RuleClass.IDLE and e.rule.action.kind is ActionKind.SLEEP for e in found)
    for e in found:
        rule, rank = e.rule, _RANKS[e.rule.kind]
        if rule.action.kind in (ActionKind.KEEP_AWAKE, ActionKind.WAKE):
            yield Claim(rank, Wish.AWAKE, rule.name)
        elif rule.action.kind is ActionKind.STOP:
            if not stop_refusal(record):
                yield Claim(rank, Wish.SLEEP, rule.name, STOP_LEVEL)
        elif not rule.is_pressure or not is_ram_pressure(rule):
            weighed = rule.foresees and rule.action.level == 2
            yield Claim(rank, Wish.SLEEP, rule.name, paying_level(record, world, now) if weighed else rule.action.level)
        elif due and rule.action.level == 2 and level_for(world, record, 2)[0] == 2:
            yield Claim(rank, Wish.SLEEP, rule.name, 2)


def protecting(record: ModelRecord, now_s: MonotonicS) -> Iterator[Claim]:
    """What keeps rules and neighbours from putting the model to sleep now, strongest first."""
    if is_busy(record):
        yield Claim(Rank.IN_USE, Wish.AWAKE, "it is in use", passes=True)
    if unsafe := level1_refusal(record):
        yield Claim(Rank.IN_USE, Wish.AWAKE, unsafe)
    if is_pinned(record):
        yield Claim(Rank.PIN, Wish.AWAKE, "it is pinned")
    if record.holds:
        # Who asked at the gate is in flight for all we know; it asks again, and waits, once the gate is shut.
        at_gate = all(h.id == gate_hold_id(record.spec.name) for h in record.holds)
        yield Claim(Rank.HOLD, Wish.AWAKE, held_by(record), passes=at_gate)
    left_s = record.awake_since_s + record.spec.min_awake_s - now_s
    if left_s > 0 and record.life.state is State.AWAKE:
        left = format_duration(left_s)
        yield Claim(Rank.MIN_AWAKE, Wish.AWAKE, f"it woke recently: min_awake leaves {left}", passes=True)
    rest_s = max(record.not_before_s, record.cooldown_until_s) - now_s
    if given_up := given_up_refusal(record):
        yield Claim(Rank.MIN_AWAKE, Wish.AWAKE, given_up)
    elif rest_s > 0:
        next_in = format_duration(rest_s)
        why = f"the last attempt did not work: next in {next_in}"
        yield Claim(Rank.MIN_AWAKE, Wish.AWAKE, why, passes=True)
    if record.owed_wake or any(record.yields is None or w.ask is not AskKind.WAKE for w in record.waiters):
        yield Claim(Rank.WAITING, Wish.AWAKE, "somebody waits for it")


def protections(record: ModelRecord, now_s: MonotonicS) -> tuple[str, ...]:
    """What protects the model, as sentences, strongest first."""
    return tuple(c.who for c in protecting(record, now_s))


def kept_from_neighbour(
    world: World, record: ModelRecord, priority: int | None, now: Now, *, beyond_turn: bool = False
) -> str:
    """What keeps the model awake against a waiting request for another of this priority, or against a reservation where
    that is None; empty where nothing does. `beyond_turn`: what ends with its turn is left out.

    A `keep_awake` rule does where the other is of equal or lower priority, and where rules are more than observed; a
    reservation outranks it, and waits for no lull.
    """
    rank, who = (Rank.RESERVATION, "a reservation") if priority is None else (Rank.WAITING, "a waiting request")
    claims = [*protecting(record, now.mono_s), Claim(rank, Wish.SLEEP, who, 1)]
    if priority is not None and lull_ends_s(record) > now.mono_s:
        why = "it is used all the time" if is_used_since_wake(record) else "it woke just now"
        claims.append(Claim(Rank.WAITING, Wish.AWAKE, why, passes=True))
    if beyond_turn:
        claims = [c for c in claims if not c.passes]
    if priority is not None and priority <= record.spec.priority and record.spec.mode is not Mode.OBSERVE:
        for rule in world.settings.rules_of.get(record.spec.name, ()):
            keeps = rule.enabled and rule.action.kind is ActionKind.KEEP_AWAKE
            if keeps and evaluate(rule, record, world, now).holds:
                who = f"rule {rule.name} keeps it awake"
                claims.append(Claim(Rank.KEEP_AWAKE_AGAINST_WAITING, Wish.AWAKE, who))
    settled = settle(claims)
    return settled.by.who if settled is not None and settled.wish is Wish.AWAKE else ""


def would_sleep(world: World, record: ModelRecord, now: Now) -> bool:
    """Whether rules would put this sleeper to sleep at once were it awake again."""
    return record.spec.mode is not Mode.OBSERVE and want_of(world, _woken(record, now), now)[0] is not None


def _woken(record: ModelRecord, now: Now) -> ModelRecord:
    """The sleeper as it would be, were it awake from now on: idle time begins anew."""
    return replace(
        record,
        life=Life(State.AWAKE, Weights.LOADED),
        since_s=now.mono_s,
        awake_since_s=now.mono_s,
        last_active_s=now.mono_s,
        wanted_by="",
    )


def is_pressed(world: World, record: ModelRecord) -> bool:
    """Whether host RAM is short for a rule that wants this model at level 2: victims then sleep at it too."""
    name = record.spec.name
    return any(
        (rule.name, name, index) in world.memory.crossed
        for rule in world.settings.rules_of.get(name, ())
        if rule.enabled and is_ram_pressure(rule) and rule.action.level == 2
        for index in range(len(rule.conditions))
    )


def rule_moments(world: World, record: ModelRecord) -> Iterator[MonotonicS]:
    """When time alone may change what the rules say of the model, or let a rule act that rested: in the past too, and
    but for local time and rates, whose moments depend on when one asks."""
    name, memory = record.spec.name, world.memory
    for rule in world.settings.rules_of.get(name, ()):
        if not rule.enabled:
            continue
        for condition in rule.lasting:
            moment_s = due_s(condition, record)
            if moment_s is not None:
                yield moment_s
        key = (rule.name, name)
        if rule.for_s > 0 and key in memory.held_since_s:
            yield memory.held_since_s[key] + rule.for_s
        if key in memory.acts:
            yield memory.acts[key][-1] + rule.cooldown_s
            yield memory.acts[key][0] + HOUR_S


def held_by(record: ModelRecord) -> str:
    """Who holds the model awake, as a sentence: the first of them, and how many more."""
    first, more = record.holds[0], len(record.holds) - 1
    others = f" and {more} more" if more else ""
    return f"it is held awake by {first.who}{others} (hold {first.id})"


def stop_refusal(record: ModelRecord) -> str:
    """Why no rule may stop this model, as a sentence; empty where one may."""
    name = record.spec.name
    return unit_refusal(record) or ("" if record.spec.may_stop else f"may_stop = false in [models.{name}]")


def level1_refusal(record: ModelRecord) -> str:
    """Why this engine may not be put to sleep at all, whoever asks; empty where it may."""
    if record.frees_nothing:
        return "sleeping frees nothing on this server: start it with --enable-sleep-mode"
    return level1_unsafe(record.facts, fenced=record.spec.fenced) if record.facts else ""


def level2_refusal(world: World, record: ModelRecord) -> str:
    """Why level 2 may not be chosen for this model now, as a sentence; empty where it may."""
    if record.facts is None:
        return "the server was not looked at yet"
    unsafe = level2_unsafe(record.facts, fenced=record.spec.fenced)
    if unsafe:
        return unsafe
    if has_other_weights(record):
        return UPDATED
    if record.check_failed:
        return f"its level 2 check failed: {record.check_failed}"
    if record.fingerprint is None:
        return NO_ANSWER_YET if may_take_answer(record) else record.not_provable or NEVER_TAKEN
    if proof_key(record.facts) not in world.proven:
        return NOT_CHECKED
    return ""


def level_for(world: World, record: ModelRecord, wanted: int) -> tuple[int, str]:
    """The level that is safe and fits for a wanted one: (level, ""), or (0, why it must stay awake)."""
    spec = record.spec
    if wanted == STOP_LEVEL and not stop_refusal(record):
        return STOP_LEVEL, ""
    if spec.max_level == 0:
        return 0, "max_level = 0 keeps it awake"
    if wanted >= 2 and spec.max_level >= 2 and not level2_refusal(world, record):
        return 2, ""
    refusal = backup_refusal(world, record)
    return (0, refusal) if refusal else (1, "")
