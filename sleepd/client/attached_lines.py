"""What the stream of a hold or of a reservation says, line by line, for both clients."""

from __future__ import annotations

import json
import secrets

from sleepd.client.answers import ApiProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def new_id(stem: str) -> str:
    """Return an id that nobody else has."""
    return f"{stem}-{secrets.token_hex(6)}"


def read_begin(raw: bytes, on_progress: Callable[[Any], None] | None) -> Any | None:
    """Return what is kept from this line on: a hold, a granted reservation.

    None: a beat, or a reservation that waits, which `on_progress` is told. Raises ApiProblem where it is refused.
    """
    line = json.loads(raw)
    if "ended" in line:
        problem = line.get("problem") or {"detail": line["ended"]}
        raise ApiProblem(int(problem.get("status", 503)), problem, json.dumps(problem))
    if "id" not in line:
        return None
    if line.get("granted", True):
        return line
    if on_progress is not None:
        on_progress(line)
    return None


def read_end(raw: bytes) -> str:
    """Return why it is over; empty for a beat and for what only changed."""
    return str(json.loads(raw).get("ended", ""))
