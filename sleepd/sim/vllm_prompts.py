"""Reading an inference request: what is asked, or the refusal vLLM 0.32 was recorded to answer."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sleepd.sim import vllm_bodies as bodies
from sleepd.sim.vllm_generation import count_tokens
from sleepd.sim.vllm_types import EngineSpec, SimReply

CHAT_TEMPLATE_TOKENS = 5
DEFAULT_CHAT_TOKENS, DEFAULT_COMPLETION_TOKENS = 32, 16


@dataclass(frozen=True, slots=True)
class Prompt:
    """One accepted request."""

    chat: bool
    text: str
    tokens: int
    max_tokens: int
    ends_by: str
    stream: bool
    include_usage: bool
    top_logprobs: int | None
    """Alternatives per token; None: no logprobs asked."""
    token_ids: bool
    pace_s: float
    tokens_as_ids: bool = False
    """Logprobs name tokens "token_id:42" instead of by their text."""
    adapter: str = ""
    """The LoRA adapter that is asked; empty: the base model."""


def parse_body(body: Any) -> Any:
    """The JSON value of a request body. Raises ValueError as json does."""
    return json.loads(body) if isinstance(body, bytes | str) else body


def parse_object(body: Any) -> dict[str, Any]:
    """The JSON object of a request body; an empty one where it holds no object."""
    try:
        data = parse_body(body)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def read_prompt(body: Any, spec: EngineSpec, adapters: Collection[str], *, chat: bool) -> Prompt | SimReply:
    """The request in `body`, or the 4xx it gets."""
    try:
        data = parse_body(body)
    except json.JSONDecodeError as problem:
        extra = f"'input': '<dict of 0 items>', 'ctx': {{'error': {problem.msg!r}}}"
        return bodies.validation_error(f"body.{problem.pos}", "json_invalid", "JSON decode error", extra)
    if not isinstance(data, dict):
        return bodies.validation_error("body", "model_attributes_type", "Input should be a valid dictionary", "")
    field = "messages" if chat else "prompt"
    if field not in data:
        extra = f"'input': '<dict of {len(data)} items>'"
        return bodies.validation_error(f"body.{field}", "missing", "Field required", extra)
    if data.get("model") not in (None, spec.name, *adapters):
        message = f"The model `{data['model']}` does not exist. Valid aliases: {spec.name}."
        return bodies.error(404, message, "NotFoundError", "model")
    text = chat_text(data["messages"]) if chat else _prompt_text(data["prompt"])
    if text is None:
        return bodies.error(400, f"The simulated server takes one text {field}.", "BadRequestError", field)
    max_tokens = data.get("max_completion_tokens") if chat else None
    max_tokens = data.get("max_tokens") if max_tokens is None else max_tokens
    refusal = _refuse_tokens(max_tokens, spec)
    if refusal:
        return refusal
    return _prompt(data, text, max_tokens, spec, chat=chat)


def _prompt(data: dict[str, Any], text: str, max_tokens: int | None, spec: EngineSpec, *, chat: bool) -> Prompt:
    top = data.get("top_logprobs") if chat else data.get("logprobs")
    asked = bool(data.get("logprobs")) if chat else top is not None
    pace_ms = (data.get("vllm_xargs") or {}).get("pace_ms", 0)
    default = DEFAULT_CHAT_TOKENS if chat else DEFAULT_COMPLETION_TOKENS
    return Prompt(
        chat=chat,
        text=text,
        tokens=count_tokens(text) + (CHAT_TEMPLATE_TOKENS if chat else 0),
        max_tokens=default if max_tokens is None else max_tokens,
        ends_by="stop" if chat and max_tokens is None else "length",
        stream=bool(data.get("stream")),
        include_usage=bool((data.get("stream_options") or {}).get("include_usage")),
        top_logprobs=(top or 0) if asked else None,
        token_ids=bool(data.get("return_token_ids")),
        pace_s=spec.pace_s + float(pace_ms) / 1000,
        tokens_as_ids=bool(data.get("return_tokens_as_token_ids")),
        adapter=data["model"] if data.get("model") not in (None, spec.name) else "",
    )


def _refuse_tokens(max_tokens: Any, spec: EngineSpec) -> SimReply | None:
    if max_tokens is None:
        return None
    if type(max_tokens) is not int or max_tokens < 1:
        text = f"max_tokens must be at least 1, got {max_tokens}. (parameter=max_tokens, value={max_tokens})"
        return bodies.error(400, text, "BadRequestError", "max_tokens")
    if max_tokens > spec.max_model_len:
        text = (
            f"max_tokens={max_tokens} cannot be greater than max_model_len={spec.max_model_len}. "
            f"Please request fewer output tokens. (parameter=max_tokens, value={max_tokens})"
        )
        return bodies.error(400, text, "BadRequestError", "max_tokens")
    return None


def chat_text(messages: Any) -> str | None:
    """The contents of the messages, one per line; None when this is no list of messages with text."""
    if not isinstance(messages, list):
        return None
    lines = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            content = "".join(part.get("text", "") for part in content if isinstance(part, dict))
        if not isinstance(content, str):
            return None
        lines.append(content)
    return "\n".join(lines)


def _prompt_text(prompt: Any) -> str | None:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        return prompt[0]
    if isinstance(prompt, list) and prompt and all(type(token) is int for token in prompt):
        return " ".join(map(str, prompt))
    return prompt if isinstance(prompt, str) else None
