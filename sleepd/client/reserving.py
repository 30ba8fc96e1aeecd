"""GPU bytes reserved for as long as a block runs, over broken lines and restarts of the daemon."""

from __future__ import annotations

import json
import os
import secrets

from sleepd.client import asks
from sleepd.client.answers import ApiProblem
from sleepd.client.attached import Attached

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sleepd.client.asks import Request
    from sleepd.client.sync import Client
    from sleepd.wire import reservation_shapes


def refusal(line: dict[str, Any]) -> ApiProblem:
    """The refusal that the last line of a reservation's stream tells."""
    problem = line.get("problem") or {"detail": line["ended"]}
    return ApiProblem(int(problem.get("status", 503)), problem, json.dumps(problem))


class Reserving(Attached):
    """`with client.reserve([0], bytes_per_gpu):` lets models step aside until the bytes are free, keeps them free but
    for this process, and gives them back at the end. See Attached for what becomes of a stream that breaks."""

    def __init__(
        self,
        client: Client,
        gpus: Sequence[int | str],
        bytes_per_gpu: int,
        reservation_id: str | None = None,
        *,
        reason: str = "",
        timeout_s: float = 600.0,
        pid: int | None = None,
        on_progress: Callable[[reservation_shapes.Reservation], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        """`pid`: whose processes hold what is the job's own already; None: this process. `timeout_s` bounds the wait
        for the room; `on_progress` is told meanwhile what it waits for. `on_lost` is told, in another thread, when
        `lost` is set."""
        self.id = reservation_id or f"job-{secrets.token_hex(6)}"
        self.reservation: reservation_shapes.Reservation | None = None
        self._gpus, self._bytes_per_gpu, self._reason, self._timeout_s = list(gpus), bytes_per_gpu, reason, timeout_s
        self._pid = os.getpid() if pid is None else pid
        self._on_progress = on_progress
        super().__init__(client, f"reservation {self.id}", on_lost)

    def __enter__(self) -> Reserving:
        """Return once the bytes are free and reserved. Raises ApiProblem, DaemonUnreachable."""
        self._enter(self._await_grant)
        return self

    def _await_grant(self) -> None:
        line = self._begin()
        while not line.get("granted"):
            if "ended" in line:
                raise refusal(line)
            if "id" in line and self._on_progress is not None:
                self._on_progress(line)
            line = json.loads(next(self._lines))
        self.reservation = line

    def _request(self, *, wait: bool) -> Request:
        # Never with `wait`: the stream tells what it waits for.
        return asks.attach_reservation(
            self.id, self._gpus, self._bytes_per_gpu, self._pid, reason=self._reason, timeout_s=self._timeout_s
        )

    def _release(self) -> None:
        self._client.give_back(self.id)
