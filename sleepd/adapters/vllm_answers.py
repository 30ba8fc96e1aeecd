"""Answers of a vLLM server, read: what each means, and which of them mean that there is no reading.

Strangers may answer at the address: nothing is taken for granted of a body. Shapes and releases: docs/vllm.md.
"""

import json
from collections.abc import Mapping
from typing import Any

from sleepd.adapters.vllm_metrics import Scrape
from sleepd.core.calls import Answered
from sleepd.core.model import MissingReason
from sleepd.core.plan import Verb

TEXT_LIMIT = 500


class Refusal(Exception):
    """The server answered, and what it answered means that there is no reading."""

    def __init__(self, reason: MissingReason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def incarnation_of(scrape: Scrape) -> str | None:
    """Which process of the server scraped this page; None where the page does not say."""
    return f"pst:{scrape.process_start_s:.2f}" if scrape.process_start_s is not None else None


def read_sleeping(status: int, body: bytes) -> bool:
    """Return what /is_sleeping said. Raises Refusal where it said neither."""
    if status == 404:
        detail = "wanted /is_sleeping, found status 404; start the server with VLLM_SERVER_DEV_MODE=1"
        raise Refusal(MissingReason.NO_DEV_MODE, detail)
    if status in (401, 403):
        detail = f"wanted /is_sleeping without a key, found status {status}; let the daemon reach the server itself"
        raise Refusal(MissingReason.UNAUTHORIZED, detail)
    answer = member(parse(body), "is_sleeping")
    if status != 200 or not isinstance(answer, bool):
        wanted = 'wanted {"is_sleeping": true or false}'
        raise Refusal(MissingReason.UNREADABLE, f"{wanted}, found status {status}: {start_of(body)}")
    return answer


def read_control(verb: Verb, status: int, body: bytes) -> Answered:
    """Return what the control call came to. A cache that was not reset is a failure, though its status is 200."""
    answer = parse(body)
    if verb is Verb.RESET_PREFIX and status == 200 and member(answer, "success") is False:
        return Answered(409, "the prefix cache is held by requests")
    if status == 200:
        return Answered(status, str(member(answer, "status") or ""))
    message = member(member(answer, "error"), "message") or member(answer, "detail")
    return Answered(status, str(message or start_of(body))[:TEXT_LIMIT])


def parse(body: bytes) -> Any:
    """The JSON, or None: of no JSON, of one too deep to be an answer, of half characters that nothing could record."""
    try:
        parsed = json.loads(body)
        if b"\\ud" in body.lower():
            json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return parsed


def member(value: Any, key: str) -> Any:
    """The object's member; None of anything else."""
    return value.get(key) if isinstance(value, Mapping) else None


def start_of(body: bytes) -> str:
    """As much of the answer as an error message quotes."""
    return body[:TEXT_LIMIT].decode("utf-8", "replace").strip()
