"""Models as the daemon knows them."""

from collections.abc import Iterator, Mapping

from sleepd.core.dialect import Remedy, has_ranks, level2_unsafe, recipe_of
from sleepd.core.host_room import HostShort, admit_backup
from sleepd.core.life import LEVEL, State
from sleepd.core.measured import growth_bytes
from sleepd.core.memory import Blind
from sleepd.core.model import Known, Missing, MissingReason, Mode
from sleepd.core.record import ModelRecord
from sleepd.core.units import MonotonicS, format_duration, format_size
from sleepd.core.world import World, public_state
from sleepd.doctor.engines import judge_engine
from sleepd.doctor.findings import Finding, fail, ok, warn

_EXPLAIN = "sleepctl explain MODEL says what is missing"
_RESTS = frozenset({State.STOPPED, State.STARTING})


def judge_models(world: World, now_s: MonotonicS, strangers: Mapping[str, int]) -> Iterator[Finding]:
    """Every model. `strangers`: how often somebody else was seen to sleep or wake it, as far as events go back."""
    for name in sorted(world.models):
        yield from _judge_model(world, world.models[name], now_s, strangers.get(name, 0))


def _judge_model(world: World, record: ModelRecord, now_s: MonotonicS, strangers: int) -> Iterator[Finding]:
    name = record.spec.name
    yield _judge_looks(record)
    yield _judge_service(world, record)
    if record.spec.allow_exposed:
        yield warn("model.exposed", f"allow_exposed = true: {record.spec.url}", name)
    else:
        yield ok("model.exposed", "its address is this host's own", name)
    if record.spec.mode is Mode.OBSERVE and world.settings.mode is not Mode.OBSERVE:
        yield ok("daemon.mode", "observe: rules only tell what they would do", name)
    if record.facts is not None:
        yield from judge_engine(name, record.facts, fenced=record.spec.fenced)
        if record.spec.max_level > 1:
            yield _judge_level2(name, level2_unsafe(record.facts, fenced=record.spec.fenced))
        yield _judge_unit(record)
    yield from _judge_freed(record)
    yield from _judge_growth(record)
    if record.facts is not None or strangers:
        yield _judge_strangers(record, now_s, strangers)
    yield from _judge_backup(world, record)


def _judge_looks(record: ModelRecord) -> Finding:
    name, seen = record.spec.name, record.seen
    if record.life.state in _RESTS:
        return ok("model.looks", "its server is not running", name)
    if not isinstance(seen, Missing):
        return ok("model.looks", record.spec.url, name)
    detail = f"{record.spec.url}: {seen.reason.value}" + (f" ({seen.detail})" if seen.detail else "")
    return (warn if seen.reason is MissingReason.NOT_YET else fail)("model.looks", detail, name)


def _judge_service(world: World, record: ModelRecord) -> Finding:
    name = record.spec.name
    state = public_state(world, name)
    if record.failing is not None or state == "failed":
        return fail("model.failed", record.failing.detail if record.failing else record.reason, name)
    if state == "lost":
        return fail("model.failed", f"its server is gone: {record.reason}", name)
    if state == "unknown":
        return warn("model.failed", "it was not looked at yet, or not so that its state is known", name, _EXPLAIN)
    return ok("model.failed", state, name)


def _judge_unit(record: ModelRecord) -> Finding:
    name, facts = record.spec.name, record.facts
    if record.spec.unit:
        return ok("model.unit", record.spec.unit, name)
    assert facts is not None
    if has_ranks(facts):
        found = "it has no unit, and a failed sleep or wake of several ranks leaves nothing but a restart (F46)"
    elif recipe_of(facts.release).failed_wake_l1[0] is Remedy.RESTART:
        found = f"it has no unit, and a failed sleep or wake of vLLM {facts.version} leaves nothing but a restart"
    else:
        found = "it has no unit"
    return warn("model.unit", found, name)


def _judge_level2(name: str, unsafe: str) -> Finding:
    if unsafe:
        return warn("model.level2", f"max_level = 2 is set, and will not be used: {unsafe}", name)
    return ok("model.level2", "nothing forbids it; a checked cycle decides", name)


def _judge_freed(record: ModelRecord) -> Iterator[Finding]:
    """What its sleeps gave back, once one was measured."""
    name = record.spec.name
    if record.frees_nothing:
        yield fail("model.frees", "a sleep was answered 200 and freed nothing", name)
    elif (found := record.footprint.shortfall()) is not None:
        freed, held = map(format_size, found)
        yield warn("model.frees", f"its last sleep gave back {freed} of the {held} that it held", name)
    elif record.footprint.sleeps and (back := record.footprint.given_back()):
        yield ok("model.frees", f"its last sleep gave back {format_size(sum(back.values()))}", name)


def _judge_growth(record: ModelRecord) -> Iterator[Finding]:
    """What its sleeps left behind, once there were two to compare."""
    name, sleeps = record.spec.name, record.footprint.sleeps
    if record.restart_wanted:
        yield warn("model.grows", record.restart_wanted, name)
    elif sleeps > 1:
        most = max(growth_bytes(record.footprint).values(), default=0)
        found = f"{format_size(most)} more than after its first" if most > 0 else "no more than after its first"
        yield ok("model.grows", f"after {sleeps} sleeps it keeps {found}", name)


def _judge_strangers(record: ModelRecord, now_s: MonotonicS, strangers: int) -> Finding:
    name, left_s = record.spec.name, record.hold_down_until_s - now_s
    if left_s > 0:
        return warn("model.stranger", f"{record.reason}; left alone for {format_duration(round(left_s))} more", name)
    if strangers:
        times = "once" if strangers == 1 else f"{strangers} times"
        return warn("model.stranger", f"somebody else slept, woke or changed it {times}, by the events on record", name)
    return ok("model.stranger", "nobody else was seen to", name)


def _judge_backup(world: World, record: ModelRecord) -> Iterator[Finding]:
    """What the next level 1 sleep would meet; a sleeper's backup is there already."""
    name = record.spec.name
    if LEVEL[record.life.state] != 0 or not isinstance(record.seen, Known):
        return
    verdict = admit_backup(world, record)
    if isinstance(verdict, HostShort):
        yield warn("model.backup", f"{verdict.reason}: wanted {verdict.wanted}, found {verdict.found}", name)
    elif isinstance(verdict, Blind):
        yield warn("model.backup", verdict.wanted, name)
    else:
        yield ok("model.backup", "it fits, or is there already", name)
