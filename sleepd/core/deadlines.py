"""When time alone changes something: a Tick is due then, and not before."""

from sleepd.core.conditions import ASLEEP
from sleepd.core.drain import hurry_moments
from sleepd.core.follow import VERIFY_AFTER_S
from sleepd.core.holds import hold_moments
from sleepd.core.life import State
from sleepd.core.model import Now
from sleepd.core.policy import rule_moments
from sleepd.core.repair import silent_until_s
from sleepd.core.units import MonotonicS
from sleepd.core.world import World


def next_deadline(world: World, now: Now) -> MonotonicS | None:
    """The next moment after `now` at which time alone changes something; a Tick is due then."""
    moments: list[float] = []
    for name, record in world.models.items():
        moments += [w.deadline_s for w in record.waiters]
        moments += hold_moments(record)
        moments += [w.drain_until_s for w in record.waiters if w.drain_until_s]
        task = world.tasks.get(name)
        if task is not None and task.resume_s is not None:
            moments.append(task.resume_s)
        if task is not None:
            silent_s = silent_until_s(world.settings, record, task)
            moments += [] if silent_s is None else [silent_s]
            moments += hurry_moments(task, world.settings.late_drain_s)
        moments.append(record.cooldown_until_s)
        if record.life.state is State.FOREIGN:
            moments.append(record.hold_down_until_s)
        if record.life.state is State.AWAKE:
            moments += [record.awake_since_s + VERIFY_AFTER_S] if record.unverified and record.fingerprint else []
            moments += [record.awake_since_s + record.spec.min_awake_s, record.not_before_s]
            moments += [record.last_active_s + record.spec.min_awake_s]
        elif record.life.state in ASLEEP and record.not_before_s > now.mono_s:
            moments.append(record.not_before_s)
        moments += rule_moments(world, record, now)
    ahead = [m for m in moments if m > now.mono_s]
    return min(ahead) if ahead else None
