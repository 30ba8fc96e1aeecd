"""The inference routes: chat and completions, plain and streamed, and the bodies recorded from vLLM 0.32."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, cast

from sleepd.sim import vllm_bodies as bodies
from sleepd.sim import vllm_pooling
from sleepd.sim.vllm_core import EngineCore
from sleepd.sim.vllm_generation import GARBAGE_TOKEN, FinishReason, Generation, answer_token, token_ids
from sleepd.sim.vllm_prompts import Prompt, chat_text, parse_body, read_prompt
from sleepd.sim.vllm_types import EngineSpec, HttpRequest, SimAnswer, SimChunk, SimReply

Answer = Callable[[SimAnswer], None]
Token = tuple[int, str]

_CHAT_PATHS = frozenset({"/v1/chat/completions", "/invocations"})


class InferenceRoutes:
    """Turns requests into generations and their tokens into answers. `wall_s` is the time of day, for `created`."""

    def __init__(self, spec: EngineSpec, core: EngineCore, wall_s: Callable[[], float]) -> None:
        self._spec, self._core, self._wall_s = spec, core, wall_s
        self._count = 0
        digest = hashlib.blake2b(f"{spec.name}/{spec.version}".encode(), digest_size=4).hexdigest()
        self._fingerprint = f"vllm-{spec.version}-{digest}"
        self._open: dict[str, Generation] = {}

    def answers(self, path: str) -> bool:
        """This is an inference route."""
        return path in _CHAT_PATHS or path == "/v1/completions" or path in vllm_pooling.routes_of(self._spec)

    def handle(self, request: HttpRequest, answer: Answer) -> Callable[[], None] | None:
        """`answer` gets what the engine says; the value gives the request up, None where it was refused at once."""
        if request.path in vllm_pooling.routes_of(self._spec):
            return self._pool(request, answer)
        prompt = read_prompt(request.body, self._spec, self._core.worker.adapters, chat=request.path in _CHAT_PATHS)
        if isinstance(prompt, SimReply):
            answer(prompt)
            return None
        if self._core.lost:
            return lambda: None
        if not self._core.alive:
            answer(bodies.engine_dead())
            return None
        if self._core.refuses_new:
            answer(bodies.error(503, "The engine is paused. Please retry later.", "ServiceUnavailableError"))
            return None
        writer = _Writer(self._spec, self._core, prompt, self._fingerprint, answer)
        writer.id = self._new_id(request, "chatcmpl" if prompt.chat else "cmpl")
        writer.created = int(self._wall_s())

        def ended(generation: Generation, reason: FinishReason) -> None:
            self._open.pop(generation.id, None)
            writer.end(generation, reason)

        reason = cast(FinishReason, prompt.ends_by)
        generation = Generation(writer.id, prompt.text, prompt.tokens, prompt.max_tokens, prompt.pace_s, reason, ended)
        self._open[writer.id] = generation
        if prompt.stream:
            generation.on_token = writer.token
            answer(SimReply(200, streaming=True))
        self._core.submit(generation)

        def abandon() -> None:
            self._open.pop(generation.id, None)
            self._core.abort(generation)

        return abandon

    def _pool(self, request: HttpRequest, answer: Answer) -> Callable[[], None] | None:
        """A pooling request: it is computed in its turn, and says no tokens."""
        asked = vllm_pooling.read_input(request.body, self._spec)
        if isinstance(asked, SimReply):
            answer(asked)
            return None
        if self._core.lost:
            return lambda: None
        if not self._core.alive:
            answer(bodies.engine_dead())
            return None
        text, tokens = asked
        worker = self._core.worker

        def ended(generation: Generation, reason: FinishReason) -> None:
            self._open.pop(generation.id, None)
            if reason == "error":
                answer(bodies.engine_dead())
                return
            right, weights_id = worker.answers_right, worker.weights_id
            answer(vllm_pooling.answer(request.path, self._spec, text, tokens, weights_id=weights_id, right=right))

        generation = Generation(self._new_id(request, "embd"), text, tokens, 0, self._spec.pace_s, "stop", ended)
        self._open[generation.id] = generation
        self._core.submit(generation)

        def abandon() -> None:
            self._open.pop(generation.id, None)
            self._core.abort(generation)

        return abandon

    def tokenize(self, request: HttpRequest) -> SimReply:
        """`/tokenize`, which needs no engine."""
        try:
            data = parse_body(request.body)
        except ValueError as problem:
            return bodies.error(400, f"JSON decode error: {problem}", "Bad Request")
        data = data if isinstance(data, dict) else {}
        text = chat_text(data["messages"]) if "messages" in data else data.get("prompt")
        if not isinstance(text, str):
            extra = f"'input': '<dict of {len(data)} items>'"
            return bodies.validation_error("body.prompt", "missing", "Field required", extra)
        ids = token_ids(text)
        return SimReply(
            200, {"count": len(ids), "max_model_len": self._spec.max_model_len, "tokens": ids, "token_strs": None}
        )

    def abort_requests(self, request: HttpRequest) -> SimReply:
        """`/abort_requests` (0.26+): the named requests end as aborted; unknown ids count too, as recorded."""
        try:
            data = parse_body(request.body)
        except ValueError as problem:
            return bodies.error(400, f"JSON decode error: {problem}", "Bad Request")
        ids = data.get("request_ids", []) if isinstance(data, dict) else []
        for id_ in ids:
            generation = self._open.get(id_)
            if generation:
                self._core.abort(generation, tell=True)
        return SimReply(200, {"status": "aborted", "aborted": len(ids)})

    def _new_id(self, request: HttpRequest, prefix: str) -> str:
        self._count += 1
        asked = request.headers.get("x-request-id")
        serial = hashlib.blake2b(f"{self._spec.name}/{self._count}".encode(), digest_size=8).hexdigest()
        return f"{prefix}-{asked or serial}"


class _Writer:
    """Writes one generation's answer."""

    def __init__(self, spec: EngineSpec, core: EngineCore, prompt: Prompt, fingerprint: str, answer: Answer) -> None:
        self._spec, self._core, self._prompt = spec, core, prompt
        self._fingerprint, self._answer = fingerprint, answer
        self.id = ""
        self.created = 0
        self._role_sent = False

    # streamed

    def token(self, generation: Generation) -> None:
        """One more token came; the last one is left for `end`, which closes the stream with it."""
        self._send_role()
        if generation.done_tokens < generation.max_tokens:
            self._send([self._next_token(generation)], None)

    def end(self, generation: Generation, reason: FinishReason) -> None:
        """The answer is complete, cut short, or an error."""
        if not self._prompt.stream:
            self._answer(bodies.engine_dead() if reason == "error" else self._plain(generation, reason))
            return
        if reason == "error":
            self._answer(SimChunk(bodies.engine_dead().body))
        elif reason == "abort" and not generation.done_tokens:
            self._send_role()  # recorded: a queued stream ends without any finish_reason
        else:
            rest = [] if reason == "abort" else [self._next_token(generation)]
            self._send(rest, reason)
            if self._prompt.include_usage:
                body = self._envelope("chat.completion.chunk" if self._prompt.chat else "text_completion", [])
                usage = self._usage(generation)
                self._answer(SimChunk(body | {"usage": usage, "system_fingerprint": self._fingerprint}))
        self._answer(SimChunk("[DONE]", last=True))

    def _next_token(self, generation: Generation) -> Token:
        return self._tokens(generation, range(generation.done_tokens - 1, generation.done_tokens))[0]

    def _send_role(self) -> None:
        if self._role_sent or not self._prompt.chat:
            return
        self._role_sent = True
        delta = {"role": "assistant", "content": ""}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        body = self._envelope("chat.completion.chunk", [choice])
        self._answer(SimChunk(body | {"prompt_token_ids": None, "prompt_text": None}))

    def _send(self, tokens: list[Token], reason: FinishReason | None) -> None:
        text = "".join(text for _, text in tokens)
        choice: dict[str, Any] = {"index": 0}
        choice |= {"delta": {"content": text}} if self._prompt.chat else {"text": text}
        choice |= {"logprobs": self._logprobs(tokens), "finish_reason": reason}
        if reason or not self._prompt.chat:
            choice["stop_reason"] = None
        choice["token_ids"] = [id_ for id_, _ in tokens] if self._prompt.token_ids else None
        body = self._envelope("chat.completion.chunk" if self._prompt.chat else "text_completion", [choice])
        if reason and not self._prompt.include_usage:
            body["system_fingerprint"] = self._fingerprint
        self._answer(SimChunk(body))

    # whole

    def _plain(self, generation: Generation, reason: FinishReason) -> SimReply:
        tokens = self._tokens(generation, range(generation.done_tokens))
        text = "".join(text for _, text in tokens)
        ids = [id_ for id_, _ in tokens] if self._prompt.token_ids else None
        choice: dict[str, Any] = {"index": 0}
        if self._prompt.chat:
            choice["message"] = {
                "role": "assistant",
                "content": text,
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "reasoning": None,
            }
        else:
            choice["text"] = text
        choice |= {"logprobs": self._logprobs(tokens), "finish_reason": reason, "stop_reason": None, "token_ids": ids}
        if not self._prompt.chat:
            choice |= {"prompt_logprobs": None, "prompt_token_ids": None}
        choice["routed_experts"] = None
        body = self._envelope("chat.completion" if self._prompt.chat else "text_completion", [choice])
        usage = self._usage(generation) | {"prompt_tokens_details": None, "completion_tokens_details": None}
        body |= {"service_tier": None, "system_fingerprint": self._fingerprint, "usage": usage}
        if self._prompt.chat:
            body |= {"prompt_logprobs": None, "prompt_token_ids": None, "prompt_text": None}
        return SimReply(200, body | {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None})

    def _tokens(self, generation: Generation, numbers: range) -> list[Token]:
        worker = self._core.worker
        weights_id = worker.answers_from(self._prompt.adapter)
        right = worker.answers_right and not generation.reads_stale
        prompt = self._prompt.text
        return [answer_token(weights_id, prompt, n) if right else GARBAGE_TOKEN for n in numbers]

    def _usage(self, generation: Generation) -> dict[str, Any]:
        said = generation.done_tokens
        return {
            "prompt_tokens": generation.prompt_tokens,
            "total_tokens": generation.prompt_tokens + said,
            "completion_tokens": said,
        }

    def _envelope(self, object_: str, choices: list[Any]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": object_,
            "created": self.created,
            "model": self._spec.name,
            "choices": choices,
        }

    def _logprobs(self, tokens: list[Token]) -> dict[str, Any] | None:
        """Logprobs that depend on the token alone: the first choice is sure, alternatives follow in fixed steps."""
        top = self._prompt.top_logprobs
        if top is None:
            return None
        certain = self._spec.certain_tokens
        steps = [CLOSE_STEP if certain is not None and n >= certain else STEP for n in range(len(tokens))]
        if self._prompt.tokens_as_ids:
            tokens = [(id_, f"token_id:{id_}") for id_, _ in tokens]
        ranked = [_ranked(token, top, step) for token, step in zip(tokens, steps, strict=True)]
        if not self._prompt.chat:
            texts = [text for _, text in tokens]
            return {
                "text_offset": [len("".join(texts[:n])) for n in range(len(texts))],
                "token_logprobs": [_logprob(id_) for id_, _ in tokens],
                "tokens": texts,
                "top_logprobs": [dict(row[: max(top, 1)]) for row in ranked],
            }
        return {"content": [_chat_logprob(row, top) for row in ranked]}


STEP, CLOSE_STEP = 1.5, 0.25
"""By how many nats each alternative is less likely than the one before."""


def _ranked(token: Token, top: int, step: float) -> list[tuple[str, float]]:
    id_, text = token
    return [(text, _logprob(id_))] + [(f"{text}{n}", _logprob(id_) - n * step) for n in range(1, top)]


def _logprob(token_id: int) -> float:
    return -0.01 - (token_id % 50) / 100


def _chat_logprob(ranked: list[tuple[str, float]], top: int) -> dict[str, Any]:
    rows = [{"token": text, "logprob": logprob, "bytes": list(text.encode())} for text, logprob in ranked]
    return rows[0] | {"top_logprobs": rows[:top]}
