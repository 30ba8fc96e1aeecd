"""A model held awake for as long as a block runs, over broken lines and restarts of the daemon."""

from __future__ import annotations

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
        hold_id: str,
        model: str,
        ask: Callable[[bool], Request],
        on_lost: Callable[[str], None] | None,
    ) -> None:
        """`ask` and `on_lost`: see Attached."""
        self.id, self.model = hold_id, model
        self.hold: shapes.Hold | None = None
        super().__init__(client, f"hold {hold_id}", ask, lambda: client.release(hold_id), on_lost)

    def __enter__(self) -> Holding:
        """Return once the model is awake and held. Raises ApiProblem, DaemonUnreachable."""
        self.hold = self._enter()
        return self
