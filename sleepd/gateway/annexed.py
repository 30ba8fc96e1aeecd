"""A client's connection on a listener that has an annex: a request that is the annex's takes the connection with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sleepd.gateway.client import ClientConnection

if TYPE_CHECKING:
    from sleepd.annex import Annex
    from sleepd.gateway.door import Door
    from sleepd.gateway.front import Front


class AnnexedConnection(ClientConnection):
    """Looks at the first bytes of each request that begins while nothing is under way before it.

    A request for the annex that was pipelined behind another stays here, where there is no such route.
    """

    __slots__ = ("_annex", "_begun")

    def __init__(self, front: Front, door: Door, annex: Annex) -> None:
        super().__init__(front, door)
        self._annex, self._begun = annex, b""

    def data_received(self, data: bytes) -> None:
        if not self._begun and not self._is_between:
            super().data_received(data)
            return
        begun = self._begun + data
        wanted = self._annex.wants(begun)
        self._begun = begun if wanted is None else b""
        if not wanted:
            super().data_received(data)
            return
        self.deaf = True
        self._front.left(self)
        self._annex.take(self.transport, begun)
        del self._feed, self._parser  # as in connection_lost, which is the annex's from now on

    @property
    def _is_between(self) -> bool:
        """Whether all that came was answered, and nothing of another request has come."""
        begun = self.head_fed or self._target or self._fields
        return self._in_head and not self.deaf and self.now is None and not begun
