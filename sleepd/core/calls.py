"""What a call to a server can come to. Answers and their absence are values, so no wire fault unwinds a decision."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from sleepd.core.plan import Verb
from sleepd.core.seen import Activity


class NoAnswerKind(StrEnum):
    TIMED_OUT = "timed out"
    """Nothing came in time; the server may still carry the call out (vLLM does not cancel on disconnect)."""
    BROKEN_OFF = "broken off"
    """The connection was made and then broke."""
    REFUSED = "refused"
    """No connection could be made: the call was certainly not carried out."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An HTTP answer, any status. `text` is the body's start (errors) or `status` field (0.32+ wake and sleep)."""

    status: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    kind: NoAnswerKind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """What was said to the known question; neither tokens nor vector: nothing certain to compare.

    `tokens` are certain enough to be remembered, `compared` those and what is likely enough to be held against them.
    `spent`: by how much the question moved the server's counters, from the `usage` of its answer.
    """

    tokens: tuple[str, ...] = ()
    compared: tuple[str, ...] = ()
    vector: tuple[float, ...] = ()
    spent: Activity = Activity()


CallResult: TypeAlias = Answered | NoAnswer
ProbeResult: TypeAlias = ProbeAnswer | Answered | NoAnswer


@dataclass(frozen=True, slots=True)
class Request:
    """A POST to one of vLLM's control routes. Level, mode and tags are query parameters; bodies are ignored there."""

    path: str
    query: tuple[tuple[str, str], ...] = ()
    body: dict[str, Any] | None = None


_WAIT = ("mode", "wait")
_KEEP = ("mode", "keep")
_ABORT = ("mode", "abort")

REQUESTS: dict[Verb, Request] = {
    Verb.SLEEP_L1: Request("/sleep", (("level", "1"), _WAIT)),
    Verb.SLEEP_L2: Request("/sleep", (("level", "2"), _WAIT)),
    Verb.RESLEEP_L1: Request("/sleep", (("level", "1"), _KEEP)),
    Verb.RESLEEP_L2: Request("/sleep", (("level", "2"), _KEEP)),
    Verb.WORKER_SLEEP_L1: Request("/collective_rpc", body={"method": "sleep", "kwargs": {"level": 1}}),
    Verb.CUT_L1: Request("/sleep", (("level", "1"), _ABORT)),
    Verb.CUT_L2: Request("/sleep", (("level", "2"), _ABORT)),
    Verb.WAKE: Request("/wake_up"),
    Verb.WAKE_WEIGHTS: Request("/wake_up", (("tags", "weights"),)),
    Verb.WAKE_KV: Request("/wake_up", (("tags", "kv_cache"),)),
    Verb.RELOAD: Request("/collective_rpc", body={"method": "reload_weights"}),
    Verb.RESET_PREFIX: Request("/reset_prefix_cache"),
}
"""Everything that is ever sent to change an engine. Never `timeout` in collective_rpc: it desynchronises workers
(vllm/v1/executor/multiproc_executor.py)."""


def request_of(verb: Verb, *, mode_parameter: bool) -> Request:
    """The one request of a verb; without `mode` for releases that do not know it (up to 0.16)."""
    request = REQUESTS[verb]
    if mode_parameter:
        return request
    return Request(request.path, tuple(pair for pair in request.query if pair[0] != "mode"), request.body)
