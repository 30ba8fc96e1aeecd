"""A guest on somebody else's listener: it looks at how a connection begins, and takes over those that are meant for it.

The gateway and the metrics listener show the page for people (sleepd/ui) so, and neither knows what it is.
"""

import asyncio
from typing import Protocol


class Annex(Protocol):
    """Who is let look at the first bytes of a request, while nothing else is going on on its connection."""

    def wants(self, begun: bytes) -> bool | None:
        """Return whether this is the guest's; None: too little has come to tell."""
        ...

    def take(self, transport: asyncio.Transport, begun: bytes) -> None:
        """Go on with the connection, which said this much already; it is the guest's from now on."""
        ...
