"""What one row of the route table says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sleepd.api.access import Role
from sleepd.api.call import Handler
from sleepd.api.fields import NO_FIELDS, Field

HOLD_ID = r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}"
"""How a client may name a hold or a reservation."""


@dataclass(frozen=True, slots=True)
class Route:
    """`verb` names the route in refusals: "wake needs operator". `kinds`: refusals beside those every route may give.

    `body_rule`: what fields must be to each other, as JSON Schema. `stream`: the answer may be a stream of these
    shapes, without an end of its own; without `answers` it always is.
    """

    method: str
    path: str
    role: Role
    verb: str
    handler: Handler
    meaning: str
    answers: Mapping[int, type]
    fields: tuple[Field, ...] = NO_FIELDS
    body_rule: Mapping[str, Any] = field(default_factory=dict)
    query: tuple[Field, ...] = NO_FIELDS
    kinds: tuple[str, ...] = ()
    stream: tuple[type, ...] = ()
    stream_type: str = "application/x-ndjson"

    @property
    def takes_body(self) -> bool:
        return self.method in ("POST", "PUT")

    @property
    def endless(self) -> bool:
        """Whether every answer is a stream."""
        return not self.answers
