"""What one row of the route table says."""

from collections.abc import Mapping
from dataclasses import dataclass

from sleepd.api.access import Role
from sleepd.api.call import Handler
from sleepd.api.fields import NO_FIELDS, Field


@dataclass(frozen=True, slots=True)
class Route:
    """`verb` names the route in refusals: "wake needs operator". `kinds`: refusals beside those every route may give.

    `media_type` other than JSON: the answer is a stream of the shape, one after the other, without an end of its own.
    """

    method: str
    path: str
    role: Role
    verb: str
    handler: Handler
    meaning: str
    answers: Mapping[int, type]
    fields: tuple[Field, ...] = NO_FIELDS
    query: tuple[Field, ...] = NO_FIELDS
    kinds: tuple[str, ...] = ()
    media_type: str = "application/json"

    @property
    def takes_body(self) -> bool:
        return self.method in ("POST", "PUT")

    @property
    def endless(self) -> bool:
        return self.media_type != "application/json"
