"""What holds and reservations share as requests: an id that the client chose, an end, and a stream that keeps them."""

import json
import re
from collections.abc import Mapping
from typing import Any

from sleepd import wire
from sleepd.api.call import Call
from sleepd.api.problems import Problem
from sleepd.api.route import HOLD_ID
from sleepd.core.commands import Answer, AnswerKind

BEAT_S = 15.0
LOOK_S = 0.5
"""How soon a stream notices that what it keeps was ended."""

ENDS_SOMEHOW = {
    "oneOf": [
        {"required": ["ttl_s"], "properties": {"ttl_s": {"type": "number"}, "attach": {"const": False}}},
        {"required": ["attach"], "properties": {"ttl_s": {"type": "null"}, "attach": {"const": True}}},
    ]
}
"""Either `ttl_s` or `attach`, as JSON Schema; `check_end` checks it in words."""


def id_of(call: Call, what: str) -> str:
    """Return the id of the path. Raises Problem where no hold or reservation (`what`) may be called so."""
    chosen = call.request.match_info["id"]
    if not re.fullmatch(HOLD_ID, chosen):
        wanted = "1 to 128 of A-Z a-z 0-9 . _ : @ -, a letter or digit first"
        raise Problem("invalid", f"the id of the {what} is not valid", wanted=wanted, found=chosen[:80])
    return chosen


def check_end(fields: Mapping[str, Any], what: str) -> None:
    """Raise Problem unless exactly one of `ttl_s` and `attach` ends it."""
    if (fields["ttl_s"] is None) is not fields["attach"]:
        found = "neither" if fields["ttl_s"] is None else "both"
        raise Problem("invalid", f"a {what} needs an end", wanted="either ttl_s or attach: true", found=found)


def raise_refusal(model: str, answer: Answer) -> None:
    """Raise Problem where the daemon did not do it."""
    if answer.kind in (AnswerKind.REFUSED, AnswerKind.TIMED_OUT):
        raise Problem.of(answer, model)


def line(body: wire.Json) -> bytes:
    """Return a line of a stream."""
    return (json.dumps(body, ensure_ascii=False) + "\n").encode()
