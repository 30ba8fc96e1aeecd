"""GPU bytes reserved for as long as a block runs, over broken lines and restarts of the daemon."""

from __future__ import annotations

from sleepd.client.attached import Attached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sleepd.client.asks import Request
    from sleepd.client.sync import Client
    from sleepd.wire import reservation_shapes


class Reserving(Attached):
    """`with client.reserve([0], bytes_per_gpu):` lets models step aside until the bytes are free, keeps them free but
    for this process, and gives them back at the end. See Attached for what becomes of a stream that breaks."""

    def __init__(
        self,
        client: Client,
        reservation_id: str,
        request: Request,
        on_progress: Callable[[reservation_shapes.Reservation], None] | None,
        on_lost: Callable[[str], None] | None,
    ) -> None:
        """`on_progress` and `on_lost`: see Attached."""
        self.id = reservation_id
        self.reservation: reservation_shapes.Reservation | None = None
        # The same whether it may wait or not: the stream tells what the grant waits for.
        super().__init__(
            *(client, f"reservation {reservation_id}", lambda _: request, lambda: client.give_back(reservation_id)),
            *(on_lost, on_progress),
        )

    def __enter__(self) -> Reserving:
        """Return once the bytes are free and reserved. Raises ApiProblem, DaemonUnreachable."""
        self.reservation = self._enter()
        return self
