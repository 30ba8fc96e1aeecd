"""A model held awake for as long as a block runs, over broken lines and restarts of the daemon."""

from __future__ import annotations

import secrets

from sleepd.client import asks
from sleepd.client.attached import Attached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sleepd.client.asks import Request
    from sleepd.client.sync import Client
    from sleepd.wire import shapes


class Holding(Attached):
    """`with client.holding("chat") as held:` wakes the model first, keeps it awake, and lets go at the end. See
    Attached for what becomes of a stream that breaks."""

    def __init__(
        self,
        client: Client,
        model: str,
        hold_id: str | None = None,
        *,
        reason: str = "",
        wake: bool = True,
        timeout_s: float = 600.0,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        """`on_lost` is told, in another thread, when `lost` is set. `timeout_s` bounds the wake."""
        self.id = hold_id or f"{model}-{secrets.token_hex(6)}"
        self.model = model
        self.hold: shapes.Hold | None = None
        self._reason, self._wake, self._timeout_s = reason, wake, timeout_s
        super().__init__(client, f"hold {self.id}", on_lost)

    def __enter__(self) -> Holding:
        """Return once the model is awake and held. Raises ApiProblem, DaemonUnreachable."""

        def begin() -> None:
            self.hold = self._begin()

        self._enter(begin)
        return self

    def _request(self, *, wait: bool) -> Request:
        return asks.attach(
            self.id, self.model, reason=self._reason, wake=self._wake, wait=wait, timeout_s=self._timeout_s
        )

    def _release(self) -> None:
        self._client.release(self.id)
