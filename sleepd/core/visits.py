"""Requests as habits are made of them: noticed in looks and wishes, whichever way they came."""

from sleepd.core.break_even import Account, carry, charge
from sleepd.core.calendar import offset_at
from sleepd.core.conditions import is_busy
from sleepd.core.draft import Draft
from sleepd.core.foresight import cost_of_sleep, open_account, price_of, silent_since
from sleepd.core.habits import attend, watch
from sleepd.core.life import OUT
from sleepd.core.model import CauseKind, Known
from sleepd.core.places import is_returning
from sleepd.core.record import ModelRecord
from sleepd.core.units import Seconds
from sleepd.core.wakes_ahead import note_wake_ahead
from sleepd.core.world import World


def note_requests(draft: Draft, before: World) -> None:
    """Let the habits of models with news, and what may be risked on them, know of their requests."""
    offset_s = offset_at(draft.calendar, draft.now.wall_s)
    for name in sorted(draft.touched):
        record, old = draft.models.get(name), before.models.get(name)
        if record is None or old is None or record is old:
            continue
        came = _came(draft, record, old)
        note_wake_ahead(draft, before, record, came=came)
        if offset_s is None or not isinstance(record.seen, Known):
            continue
        local_s = draft.now.wall_s + offset_s
        # A look tells what was when it was asked; whoever waits asked just now.
        at_s = record.seen.at_s if record.seen is not old.seen and record.in_flight == 0 else draft.mono_s
        ago_s = draft.mono_s - at_s if came else 0.0
        habits = attend(record.habits, local_s - ago_s) if came else watch(record.habits, local_s)
        account = _account(draft, before, record, came=came, ago_s=ago_s)
        if habits is not record.habits or account is not record.account:
            draft.change(name, habits=habits, account=account)


def _came(draft: Draft, record: ModelRecord, old: ModelRecord) -> bool:
    """Whether a request came, or still runs: through the gate, past it, or waiting for a sleeper."""
    if record.used != old.used or record.entered != old.entered or record.in_flight > 0:
        return True
    known = {w.id for w in old.waiters}
    if any(w.cause.kind is CauseKind.REQUEST and w.id not in known and not is_returning(w) for w in record.waiters):
        return True
    # What runs during a task may be a question of ours.
    return record.spec.name not in draft.tasks and is_busy(record)


def _account(draft: Draft, before: World, record: ModelRecord, *, came: bool, ago_s: Seconds) -> Account | None:
    """What may be risked from now on: a silence ends with a request, a hold, and a wake that no rule asked for."""
    price_s, now_s = price_of(draft.settings, record), draft.mono_s - ago_s
    if not price_s:
        return None
    account, awake = record.account, record.life.state not in OUT
    if account is None:
        return open_account(record, price_s, now_s)
    in_use = is_busy(record)
    if not came and not record.holds and awake is account.awake and in_use is account.in_use:
        return account
    task = before.tasks.get(record.spec.name)
    by_rule = task is not None and task.cause.kind is CauseKind.RULE
    ends = came or bool(record.holds) or (awake and not account.awake and not by_rule)
    account = carry(
        account, price_s, now_s, silent_s=0.0 if ends else silent_since(account, now_s), awake=awake, in_use=in_use
    )
    slept = by_rule and not awake and before.models[record.spec.name].life.state not in OUT
    return charge(account, cost_of_sleep(record, price_s, task.level)) if slept and task is not None else account
