"""The keys that clients show, compared in constant time."""

import hmac
from collections.abc import Mapping


class Keys:
    """Who may use the gateway, by the key that they show."""

    __slots__ = ("_entries",)

    def __init__(self, names_by_key: Mapping[str, str]) -> None:
        self._entries = tuple((key.encode(), name) for key, name in names_by_key.items())

    def owner_of(self, shown: bytes) -> str | None:
        """Return whose key this is, or None. Takes as long whichever it is, and whether it is one or not."""
        found: str | None = None
        for key, name in self._entries:
            if hmac.compare_digest(key, shown):
                found = name
        return found
