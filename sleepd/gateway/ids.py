"""Which model a response's id belongs to: GET /v1/responses/{id} and its cancel name no model."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from sleepd.gateway.settings import IDS_KEPT_S, IDS_LIMIT

if TYPE_CHECKING:
    from sleepd.gateway.exchange import Exchange

KeptId: TypeAlias = tuple[str, str, float]
"""A response's id, its model, and until when by the loop's clock."""

_ID = re.compile(rb'"id"\s*:\s*"(resp_[A-Za-z0-9_-]{1,123})"')
_LOOKED_AT = 4096
"""The id stands in the first members of the answer, and in the first event of a stream (vLLM 0.32.0)."""


class ResponseIds:
    """Ids and their models, for an hour each, the oldest forgotten first."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._models: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def learn(self, x: Exchange, data: bytes, model: str) -> bool:
        """Remember the id in an answer's beginning; True once it was found, or cannot come any more."""
        x.parts.append(data[:_LOOKED_AT])
        begun = b"".join(x.parts)
        found = _ID.search(begun)
        if found is not None:
            self.remember(found[1].decode(), model)
        if found is None and len(begun) < _LOOKED_AT:
            return False
        x.parts = []
        return True

    def remember(self, id_: str, model: str, until_s: float | None = None) -> None:
        """Know whose it is until then, by the loop's clock; else for an hour."""
        self._models[id_] = (model, self._time() + IDS_KEPT_S if until_s is None else until_s)
        self._models.move_to_end(id_)
        if len(self._models) > IDS_LIMIT:
            self._models.popitem(last=False)

    def model_of(self, id_: str) -> str | None:
        """Return whose response this is, or None where it is unknown or older than an hour."""
        model, until_s = self._models.get(id_, (None, 0.0))
        return model if until_s > self._time() else None

    def kept(self) -> list[KeptId]:
        """Return what is remembered, the oldest first."""
        return [(id_, model, until_s) for id_, (model, until_s) in self._models.items()]

    def forget_old(self) -> None:
        now_s = self._time()
        while self._models and next(iter(self._models.values()))[1] <= now_s:
            self._models.popitem(last=False)
