"""Logins that failed: whoever fails often waits."""

from collections import deque

from sleepd.core.units import MonotonicS, Seconds

FAILURES_LIMIT = 10
WITHIN_S: Seconds = 60.0
ADDRESSES_LIMIT = 1024
"""Of those that failed longest ago, nothing is remembered any more."""


class Attempts:
    """Failures by address within `WITHIN_S`."""

    def __init__(self) -> None:
        self._failed: dict[str, deque[MonotonicS]] = {}

    def wait_s(self, address: str, now_s: MonotonicS) -> Seconds:
        """Return how long the address must wait before it may try again; 0: not at all."""
        failed = self._failed.get(address)
        if failed is None or len(failed) < FAILURES_LIMIT:
            return 0.0
        return max(0.0, failed[0] + WITHIN_S - now_s)

    def failed(self, address: str, now_s: MonotonicS) -> None:
        failed = self._failed.pop(address, None) or deque(maxlen=FAILURES_LIMIT)
        failed.append(now_s)
        self._failed[address] = failed
        while len(self._failed) > ADDRESSES_LIMIT:
            del self._failed[next(iter(self._failed))]
