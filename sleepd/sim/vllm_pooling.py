"""The pooling routes: embeddings and pooled vectors. Fields as in vllm/entrypoints/pooling (0.32)."""

from __future__ import annotations

from typing import Any

from sleepd.sim import vllm_bodies as bodies
from sleepd.sim.vllm_generation import answer_token, count_tokens
from sleepd.sim.vllm_prompts import parse_body
from sleepd.sim.vllm_types import EngineSpec, SimReply

EMBEDDINGS, POOLING = "/v1/embeddings", "/pooling"
SIZE = 64
GARBAGE_VECTOR = [0.125] * SIZE
"""What discarded weights say: nothing of the question is left in it."""


def routes_of(spec: EngineSpec) -> dict[str, tuple[str, ...]]:
    """The pooling routes that this server serves."""
    served = {"embed": (EMBEDDINGS, POOLING), "pool": (POOLING,)}.get(spec.task, ())
    return dict.fromkeys(served, ("POST",))


def read_input(body: Any, spec: EngineSpec) -> tuple[str, int] | SimReply:
    """The text that is asked about and its tokens, or the refusal."""
    try:
        data = parse_body(body)
    except ValueError as problem:
        return bodies.error(400, f"JSON decode error: {problem}", "Bad Request")
    data = data if isinstance(data, dict) else {}
    text = data.get("input")
    if not isinstance(text, str):
        return bodies.validation_error("body.input", "missing", "Field required", "")
    if data.get("model") not in (None, spec.name):
        return bodies.error(404, f"The model `{data['model']}` does not exist.", "NotFoundError", "model")
    return text, count_tokens(text)


def answer(path: str, spec: EngineSpec, text: str, tokens: int, *, weights_id: str, right: bool) -> SimReply:
    """The vector these weights give the text."""
    numbers = [answer_token(weights_id, text, n)[0] / 256 - 1 for n in range(SIZE)] if right else GARBAGE_VECTOR
    field, kind = ("embedding", "embedding") if path == EMBEDDINGS else ("data", "pooling")
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": None}
    data = [{"index": 0, "object": kind, field: numbers}]
    return SimReply(200, {"id": "embd-0", "object": "list", "model": spec.name, "data": data, "usage": usage})
