"""Foresight that never costs much: an account of what being wrong may cost, against whoever knows every request.

The bound is the ski rental's. Being awake without a request costs its seconds, falling asleep and being woken again one
`price`. Of a silence, the clairvoyant pays its length or the price, whichever is less. To wait for as long as the price
and sleep then costs twice that at most, and nothing does better for certain. So whatever is put by below twice the
clairvoyant's cost may be spent on foresight, and where nothing is left the model waits for as long as the price.
"""

from dataclasses import dataclass

from sleepd.core.frozen import replace
from sleepd.core.units import MonotonicS, Seconds

MOST_PRICES = 8.0
"""What may be put by: how long a forecast may be wrong in a row."""
GRAIN_S = 1e-3
"""Moments are floats: what is left of the last second may be less than nothing."""


@dataclass(frozen=True, slots=True)
class Account:
    """Seconds put by as of `at_s`, when it had been silent for `silent_s`. It begins with one price: what finding out
    may cost, once."""

    credit_s: Seconds
    at_s: MonotonicS
    silent_s: Seconds
    awake: bool
    in_use: bool = False
    """Seconds in which requests run cost whoever knows them as much: they are on nobody's account."""


def credit_at(account: Account, price_s: Seconds, now_s: MonotonicS) -> Seconds:
    """What is put by now, if it went on as it was: twice what the clairvoyant paid meanwhile, less what we did."""
    return min(_uncapped(account, price_s, now_s), MOST_PRICES * price_s)


def _uncapped(account: Account, price_s: Seconds, now_s: MonotonicS) -> Seconds:
    lasted_s = 0.0 if account.in_use else max(0.0, now_s - account.at_s)
    due_s = min(account.silent_s + lasted_s, price_s) - min(account.silent_s, price_s)
    return account.credit_s + 2 * due_s - (lasted_s if account.awake else 0.0)


def crossings(account: Account, price_s: Seconds, bound_s: Seconds) -> tuple[MonotonicS, ...]:
    """When what is put by comes to this bound if it goes on as it is: past, where that was."""
    # It grows until the silence lasted for the price, and falls from then on while it is awake.
    turns_s = account.at_s + max(0.0, price_s - account.silent_s)
    rises_s = account.at_s + (bound_s - account.credit_s) / (1.0 if account.awake else 2.0)
    rising = (rises_s,) if rises_s < turns_s else ()
    return (*rising, turns_s + _uncapped(account, price_s, turns_s) - bound_s) if account.awake else rising


def is_spent(credit_s: Seconds, price_s: Seconds) -> bool:
    """Whether nothing is left beyond what one sleep costs."""
    return credit_s <= price_s + GRAIN_S


def carry(
    account: Account, price_s: Seconds, now_s: MonotonicS, *, silent_s: Seconds, awake: bool, in_use: bool = False
) -> Account:
    """The account from now on: `silent_s` is 0 where a request came; `in_use`: it still runs."""
    return Account(max(0.0, credit_at(account, price_s, now_s)), now_s, silent_s, awake, in_use)


def charge(account: Account, cost_s: Seconds) -> Account:
    """The account after a rule put the model to sleep, at this cost: the price, more at level 2."""
    return replace(account, credit_s=max(0.0, account.credit_s - cost_s))


def may_sleep(
    predicted_s: Seconds | None, silent_s: Seconds, credit_s: Seconds, price_s: Seconds, least_s: Seconds
) -> bool:
    """Whether to fall asleep for `least_s` at least: as foreseen, where being wrong can be paid; else once it was
    silent for so long."""
    if predicted_s is None or is_spent(credit_s, price_s):
        return silent_s >= least_s - GRAIN_S
    return predicted_s >= least_s


def may_sleep_deeper(predicted_s: Seconds | None, credit_s: Seconds, cost_s: Seconds) -> bool:
    """Whether to sleep at a level whose sleep and wake cost more: only where no request is expected for so long, and
    being wrong can be paid."""
    return predicted_s is not None and min(predicted_s, credit_s) >= cost_s


def may_wake(predicted_s: Seconds | None, within_s: Seconds, credit_s: Seconds, price_s: Seconds) -> bool:
    """Whether to wake ahead of a request that is expected within this time: only where waiting for it, in vain, and the
    sleep after that can be paid."""
    return predicted_s is not None and predicted_s < within_s and credit_s >= price_s + within_s
