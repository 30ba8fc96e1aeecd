"""Server-sent events, read line by line (HTML living standard, section 9.2)."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class EventLines:
    """Takes the lines of a stream and gives the events; remembers the id to resume from."""

    def __init__(self, since: str | None) -> None:
        self.last_id = since
        self._kind, self._id = "", ""

    def take(self, raw: bytes) -> dict[str, Any] | None:
        """Return the event that ends with this line's data. Comments only keep the connection alive."""
        field, _, value = raw.decode(errors="replace").rstrip("\r").partition(": ")
        if field == "event":
            self._kind = value
        elif field == "id":
            self._id = value
        elif field == "data":
            body: dict[str, Any] = json.loads(value)
            self.last_id = self._id or self.last_id
            told = {"kind": self._kind} | body if self._kind else body
            self._kind, self._id = "", ""
            return told
        return None
