"""Bodies and statuses the simulated API server answers with, as recorded from vLLM 0.32 and read in its sources."""

from __future__ import annotations

from sleepd.sim.dialects import Dialect
from sleepd.sim.vllm_types import EngineFailure, EngineSpec, SimReply, WorkerFailure

NOT_FOUND = SimReply(404, {"detail": "Not Found"})
UNAUTHORIZED = SimReply(401, {"error": "Unauthorized"})
ENGINE_DEAD_TEXT = "EngineCore encountered an issue. See stack trace (above) for the root cause."


def method_not_allowed(allowed: str) -> SimReply:
    """405, with the method that is allowed."""
    return SimReply(405, {"detail": "Method Not Allowed"}, headers=(("allow", allowed),))


def error(status: int, message: str, type_: str, param: str | None = None) -> SimReply:
    """vLLM's error object."""
    return SimReply(status, {"error": {"message": message, "type": type_, "param": param, "code": status}})


def validation_error(location: str, kind: str, message: str, extra: str) -> SimReply:
    """400 as vLLM words a failed request validation; `extra` is the rest of pydantic's dict."""
    text = f"1 validation error:\n  {{'type': '{kind}', 'loc': '{location}', 'msg': {message!r}, {extra}}}"
    return error(400, text, "Bad Request", location)


def engine_dead() -> SimReply:
    """500 of an inference request whose engine died."""
    return error(500, ENGINE_DEAD_TEXT, "InternalServerError")


def engine_failure(call: str, failure: EngineFailure, spec: EngineSpec, dialect: Dialect) -> SimReply:
    """500 of an engine call; the generic handler also closes the connection. JSON from 0.18, plain text before."""
    if not dialect.json_errors:
        return SimReply(500, "Internal Server Error", closes_connection=True)
    text = str(failure)
    if isinstance(failure, WorkerFailure) and spec.tensor_parallel_size > 1:
        text = f"Worker failed with error '{text}', please check the stack trace above for the root cause"
    body = error(500, f"Call to {call} method failed: {text}", "InternalServerError").body
    return SimReply(500, body, closes_connection=True)


def bad_level(text: str, dialect: Dialect) -> SimReply:
    """What a `level` that is no integer gets before 0.32 (there FastAPI words it)."""
    message = f"invalid literal for int() with base 10: {text!r}"
    if dialect.bad_level_status == 400:
        return error(400, message, "BadRequestError")
    return SimReply(500, "Internal Server Error", closes_connection=True)
