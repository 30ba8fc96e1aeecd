"""What a look at a server means for what is believed of it: belief + look -> what happened."""

from sleepd.core.activity import Owed
from sleepd.core.budget import is_given_up, settle_end
from sleepd.core.commands import AnswerKind, LookNow
from sleepd.core.dialect import capabilities
from sleepd.core.direct import watch_connections
from sleepd.core.draft import Draft
from sleepd.core.events import ModelLooked
from sleepd.core.footprint import Footprint, sized_by
from sleepd.core.frozen import replace
from sleepd.core.half_way import half_way, is_to_be_weighed
from sleepd.core.late_looks import is_late
from sleepd.core.learn import count_use, take_facts
from sleepd.core.life import Fact, Life, State, Weights
from sleepd.core.model import Failure, Known, Missing, MissingReason
from sleepd.core.owed_wakes import restore_victims
from sleepd.core.record import PLAIN, Belief, ModelRecord
from sleepd.core.restarts import may_come_back
from sleepd.core.seen import ModelSeen, SleepGauge
from sleepd.core.strangers import hold_down, meet_counted, watch_asked

LOST_AFTER_POLLS = 3
"""Polls in a row that must fail before a reading is missing, and a refused connection means the server is gone."""
START_HINT = "start the server; it is taken in as soon as it answers"

_GONE = frozenset({MissingReason.REFUSED})


def look_at(draft: Draft, event: ModelLooked) -> None:
    """Take in one look at a server."""
    record = draft.models.get(event.model)
    if record is None:
        return
    if record.in_flight != event.in_flight:
        draft.change(event.model, in_flight=event.in_flight)
    if record.entered != event.entered:
        # Tokenizing and the like move no counter of the server: that they came through the gate is use all the same.
        draft.change(event.model, entered=event.entered, last_active_s=draft.mono_s)
    if isinstance(event.reading, Missing):
        _missed(draft, event.model, event.reading)
    elif event.reading.asked_at_s >= max(record.settled_s, seen_s(record)):
        _saw(draft, event.model, event.reading)


def seen_s(record: ModelRecord) -> float:
    """When the newest look was asked: an older one that comes late says nothing any more."""
    return record.seen.asked_at_s if isinstance(record.seen, Known) else 0.0


def _missed(draft: Draft, name: str, reading: Missing) -> None:
    record = draft.change(name, failed_polls=draft.models[name].failed_polls + 1)
    if record.spec.unit and record.failed_polls == 1:
        # Its unit tells why nothing answers.
        draft.command(LookNow(unit=name))
    if reading.reason in PLAIN:
        was = record.unreadable
        draft.change(name, seen=reading)
        _tell_unreadable(draft, name, was)
        return
    if record.failed_polls < LOST_AFTER_POLLS:
        return
    silent_since_s = record.seen.since_s if isinstance(record.seen, Missing) and record.seen.since_s else draft.mono_s
    draft.change(name, seen=replace(reading, since_s=silent_since_s))
    if reading.reason not in _GONE or record.life.state in (State.LOST, State.STOPPED, State.STARTING, State.STOPPING):
        if record.failed_polls == LOST_AFTER_POLLS and reading.reason not in _GONE:
            _tell_unreadable(draft, name, None)
        return
    if record.life.state is State.FAILED and (record.restarts_spent or is_given_up(record)):
        return  # given up: that it answers nobody is why
    found = f"nothing answers at {record.spec.url} ({reading.detail or reading.reason})"
    todo = f"start the server, or check url in [models.{name}]"
    if reading.killed:
        found, todo = f"{reading.killed}, and {found}", "it needs RAM for its weights and a backup, see sleepctl doctor"
    _lose(draft, name, f"{found}: {todo}")


def _tell_unreadable(draft: Draft, name: str, was: Failure | None) -> None:
    """Tell why it cannot be read, where that is news. It says so of itself as long as it lasts, and no longer."""
    told = draft.models[name].unreadable
    if told is not None and told != was:
        draft.note("failure", name, told.detail, {"code": told.code, "step": told.step})


def _lose(draft: Draft, name: str, detail: str) -> None:
    was = record = draft.models[name]
    task = draft.tasks.get(name)
    settled = task is None and record.life.state in (State.AWAKE, State.ASLEEP_L1, State.ASLEEP_L2)
    belief = Belief(record.life, record.incarnation, record.control) if settled else None
    if task:
        draft.end_task(task, "server lost")
        restore_victims(draft, task)
    draft.state(name, Fact.LOST)
    draft.change(name, belief=belief, checking=False, owed_wake=None)
    draft.fail(name, "lost", detail)
    settle_end(draft, name, was, task)
    record = draft.models[name]
    if may_come_back(record):
        draft.command(LookNow(unit=name))
        return
    for waiter in record.waiters:
        draft.answer(name, waiter, AnswerKind.REFUSED, problem="engine_failed", detail=detail, hint=START_HINT)


def _saw(draft: Draft, name: str, reading: Known[ModelSeen]) -> None:
    record = draft.models[name]
    seen, was = reading.value, record.seen
    unit_read_s = record.unit_read_s
    if seen.unit_memory is not None:
        unit_read_s = reading.asked_at_s
    elif isinstance(was, Known) and was.value.facts.incarnation == seen.facts.incarnation:
        # Not every look reads it; without it the limits above the unit would be forgotten meanwhile.
        seen = replace(seen, unit_memory=was.value.unit_memory)
        reading = replace(reading, value=seen)
    take_facts(draft, name, seen.facts)
    record = draft.change(name, seen=reading, failed_polls=0, unit_read_s=unit_read_s)
    if record.life.state in (State.LOST, State.STOPPED) and name not in draft.tasks:
        draft.state(name, Fact.FOUND_AGAIN)
        reason = "it answers again: looking at it"
        draft.change(name, failure=None, stopped=None, start_wanted=None, restart_due="", reason=reason)
        draft.note("found_again", name, f"{name} answers again at {record.spec.url}")
    elif record.life.state is State.UNKNOWN:
        draft.change(name, start_wanted=None)  # it runs
    known_as = draft.models[name].incarnation
    if known_as != seen.facts.incarnation:
        _meet(draft, name, known_as, seen, known_alive=isinstance(was, Known))
        # It took its memory at some time before it answered: GPU readings asked before this look may not know of it.
        draft.change(name, settled_s=reading.asked_at_s)
    task = draft.tasks.get(name)
    if task is not None:
        watch_asked(draft, task, seen)
        return
    if draft.models[name].life.state is State.UNKNOWN:
        meet_unknown(draft, name, reading)
    else:
        _watch(draft, name, reading)


def _meet(draft: Draft, name: str, known_as: str | None, seen: ModelSeen, *, known_alive: bool) -> None:
    """Another process answers: what was learned of the old one's memory is void, its sizes stay as a prior.
    `known_alive`: the old one answered the look before."""
    record = draft.models[name]
    if known_as is not None:
        task = draft.tasks.get(name)
        if known_alive and record.life.state is not State.UNKNOWN:
            # Nobody saw it go.
            settle_end(draft, name, record, task)
        if task:
            draft.end_task(task, "the server was restarted")
        if record.life.state is not State.UNKNOWN:
            draft.state(name, Fact.RESTARTED)
        draft.note("restarted", name, f"{name} was restarted (vLLM {seen.facts.version})")
        record = draft.models[name]
        record = replace(
            record,
            life=Life(State.UNKNOWN, Weights.LOADED),
            fingerprint=None,
            failure=None,
            check_failed="",
            checking=False,
            owed_wake=None,
            frees_nothing=False,
            unverified=False,
            untried=False,
            broke_off_s=float("-inf"),
            not_provable="",
            belief=None,
            placed_on=(),
            in_part_since_s=None,
            prime_failed=False,
            restart_wanted="",
            restart_due="",
            start_wanted=None,
            stopped=None,
            not_before_s=draft.mono_s,
            reason="it was restarted: looking at it",
        )
    elif record.belief is not None and record.belief.incarnation != seen.facts.incarnation:
        record = replace(record, belief=None, fingerprint=None, life=Life(State.UNKNOWN, Weights.LOADED))
    under, learned = sized_by(seen.facts), record.footprint
    draft.put(
        replace(
            record,
            incarnation=seen.facts.incarnation,
            footprint=Footprint(under=under),
            prior=learned.retired(record.prior) if learned.under == under else Footprint(),
            control=None,
            control_before=None,
            activity=None,
            owed=Owed() if known_as is not None else record.owed,
            last_active_s=draft.mono_s if known_as is not None or record.belief is None else record.last_active_s,
        )
    )


def meet_unknown(draft: Draft, name: str, reading: Known[ModelSeen]) -> None:
    """Say what an unknown engine is doing, from the belief of a former run, its counters and its own word."""
    seen = reading.value
    if seen.is_sleeping is None:
        return
    record = draft.models[name]
    fact = interpret(record, seen)
    if not (record.belief and _holds(record.belief, seen)) and not _weigh(draft, record, seen, fact):
        return
    if fact is Fact.FOUND_AWAKE and is_late(draft, reading.at_s, record.looked_again):
        # Its gate would open: a stranger may have put it to sleep since, and polls have not told yet.
        draft.change(name, looked_again=record.looked_again + 1)
        draft.note("looked_again", name, f"{name} is looked at again: what was found grew old")
        draft.command(LookNow(model=name))
        return
    if fact in (Fact.FOUND_AWAKE, Fact.FOUND_ASLEEP_L1, Fact.FOUND_ASLEEP_L2):
        draft.change(name, life=_life_found(record, seen, fact))
    if fact in (Fact.FOUND_ASLEEP_L1, Fact.FOUND_ASLEEP_L2) and not (record.belief and _holds(record.belief, seen)):
        # A wake that failed half-way, or a stranger, left it with other memory than it was learned to hold asleep.
        draft.change(name, footprint=replace(record.footprint, asleep={}))
    draft.change(name, belief=None, control=seen.control, activity=seen.activity, looked_again=0)
    found = draft.state(name, fact)
    belief = record.belief
    if belief and belief.since_s is not None and belief.life.state is found.life.state and _holds(belief, seen):
        # Nobody touched it meanwhile: it has been so for as long as was known before.
        draft.change(name, since_s=belief.since_s, since_wall_s=belief.since_wall_s)
        if found.life.state is State.AWAKE:
            draft.change(name, awake_since_s=belief.since_s)
    if fact is Fact.FOUND_PAUSED:
        hold_down(draft, name, "somebody else paused it")
    draft.change(name, reason=_found_reason(fact))


def _weigh(draft: Draft, record: ModelRecord, seen: ModelSeen, fact: Fact) -> bool:
    """Whether its word may be believed by the bytes it holds. Where these must be seen first, they are asked for."""
    name = record.spec.name
    if is_to_be_weighed(record):
        draft.command(LookNow(gpus=True))
        return False
    sleeps = fact in (Fact.FOUND_ASLEEP_L1, Fact.FOUND_ASLEEP_L2)
    found = half_way(record, seen, draft.gpus, draft.settings.gpu_margin_bytes, sleeps=sleeps)
    if not found:
        return True
    draft.state(name, Fact.FOUND_MIDWAY)
    draft.state(name, Fact.GAVE_UP)
    draft.fail(name, "half_way", f"{found}: restart the server")
    return False


def interpret(record: ModelRecord, seen: ModelSeen) -> Fact:
    """belief + look -> the found_* fact. A belief counts only of the same incarnation with unmoved counters."""
    belief, release = record.belief, seen.facts.release or (0, 0)
    if belief and _holds(belief, seen):
        if not seen.is_sleeping and belief.life == Life(State.AWAKE, Weights.LOADED):
            return Fact.FOUND_AWAKE
        if seen.is_sleeping and belief.life.state is State.ASLEEP_L1:
            return Fact.FOUND_ASLEEP_L1
        if seen.is_sleeping and belief.life.state is State.ASLEEP_L2:
            return Fact.FOUND_ASLEEP_L2
    if not seen.is_sleeping:
        untouched = seen.control is not None and not seen.control.any()
        return Fact.FOUND_AWAKE if untouched else Fact.FOUND_AWAKE_DOUBTFUL
    if release >= (0, 17) and seen.gauge in (SleepGauge.AWAKE, SleepGauge.NONE_SET):
        return Fact.FOUND_PAUSED
    # The gauge shows what was asked for: level 2 asked of a level 1 sleeper discards nothing. Where a reload is safe
    # the deeper level costs time alone; where it is not, only a bare wake and an answer can tell.
    caps = capabilities(seen.facts, fenced=record.spec.fenced)
    reloads = not (caps.level2_unsafe if record.fingerprint else caps.cure_unsafe)
    return Fact.FOUND_ASLEEP_L2 if seen.gauge is SleepGauge.DISCARDED and reloads else Fact.FOUND_ASLEEP_L1


def _holds(belief: Belief, seen: ModelSeen) -> bool:
    """Whether nobody touched the engine since: the same process, and control counters that can be read and stand still.
    A missing counter is not an unmoved one."""
    same = belief.incarnation is not None and belief.incarnation == seen.facts.incarnation
    return same and seen.control is not None and belief.control == seen.control


def _life_found(record: ModelRecord, seen: ModelSeen, fact: Fact) -> Life:
    """The weights to believe on finding it so: what was believed where that holds, else doubt (asleep) or loaded."""
    belief = record.belief if record.belief and _holds(record.belief, seen) else None
    if fact is Fact.FOUND_AWAKE:
        return Life(State.UNKNOWN, Weights.LOADED)
    level = State.ASLEEP_L1 if fact is Fact.FOUND_ASLEEP_L1 else State.ASLEEP_L2
    if belief and belief.life.state is level:
        return Life(State.UNKNOWN, belief.life.weights)
    return Life(State.UNKNOWN, Weights.DOUBTFUL)


def _found_reason(fact: Fact) -> str:
    return {
        Fact.FOUND_AWAKE: "found awake",
        Fact.FOUND_AWAKE_DOUBTFUL: "somebody slept or woke it before; its weights are to be proven first",
        Fact.FOUND_ASLEEP_L1: "found asleep",
        Fact.FOUND_ASLEEP_L2: "found asleep at level 2",
        Fact.FOUND_PAUSED: "somebody else paused it: hands off",
    }[fact]


def _watch(draft: Draft, name: str, reading: Known[ModelSeen]) -> None:
    """Between tasks: count use as activity, and notice hands that are not ours."""
    record, seen = draft.models[name], reading.value
    settled = record.life.state in (State.AWAKE, State.ASLEEP_L1, State.ASLEEP_L2, State.FOREIGN)
    if seen.control is not None and seen.control == record.control_before:
        seen = replace(seen, control=None)  # our own wake is not counted yet, and nothing else was
    if settled and seen.control is not None and record.control is not None and seen.control != record.control:
        meet_counted(draft, name, record.control, seen.control)
        return
    used = count_use(draft, name, seen)
    watch_connections(draft, name, seen.direct)
    if record.life.state is State.AWAKE:
        if seen.is_sleeping:
            draft.state(name, Fact.CONTRADICTED)
            draft.change(name, reason="believed awake, but it says it sleeps")
            return
        if used or seen.running or seen.waiting or record.in_flight:
            draft.change(name, last_active_s=reading.at_s)
        if record.reason == "found awake" and (used or seen.running):
            draft.change(name, reason="in use")
    draft.change(name, control=seen.control if record.control is None else record.control)
