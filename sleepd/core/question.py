"""The known question on the wire: what is asked at each route, and what its answer says.

Routes and fields: vllm/entrypoints/openai (completions, embeddings) and vllm/entrypoints/pooling, 0.8.5 to 0.33.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from sleepd.core.activity import ANSWER_TOKENS
from sleepd.core.calls import ProbeAnswer
from sleepd.core.seen import Activity

COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
POOLING = "/pooling"
LEAST_GAP_NATS = 1.0
"""Where the runner-up is closer than this, another batch shape may tip the balance: the answer is cut there."""
COMPARED_GAP_NATS = 0.5
"""The same for an answer that is compared: one that was remembered with a runner-up just far enough must not be missing
when it has come a little closer. (At bfloat16 two logits of 16 and more differ by eighths.)"""
KEPT_NUMBERS = 1024
"""The start of a long vector tells weights apart as well as all of it."""


def question_body(asks_at: str, api_name: str, prompt: str) -> dict[str, Any]:
    """The JSON body that asks the known question at this route."""
    if asks_at == EMBEDDINGS:
        return {"model": api_name, "input": prompt, "encoding_format": "float"}
    if asks_at == POOLING:
        return {"model": api_name, "input": prompt}
    fixed = {
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
        "seed": 0,
        # A checkpoint's generation_config.json may set one (0.8+ goes by it): then the runner-up by log probability is
        # not the one that came close.
        "repetition_penalty": 1,
        "logprobs": 2,
        "return_tokens_as_token_ids": True,
    }
    return {"model": api_name, "prompt": prompt, **fixed}


def read_answer(asks_at: str, answer: Any) -> ProbeAnswer:
    """What a 200 of this route says; nothing certain where it is not what vLLM answers."""
    spent = _spent(member_of(answer, "usage"))
    if asks_at == COMPLETIONS:
        return ProbeAnswer(
            certain_tokens(answer, LEAST_GAP_NATS), certain_tokens(answer, COMPARED_GAP_NATS), spent=spent
        )
    data = member_of(answer, "data")
    first = data[0] if isinstance(data, list) and data else None
    numbers = list(_numbers(member_of(first, "embedding" if asks_at == EMBEDDINGS else "data")))
    return ProbeAnswer(vector=tuple(round(n, 6) for n in numbers[:KEPT_NUMBERS]), spent=spent)


def _spent(usage: Any) -> Activity:
    """By how much the question moved the counters: one request, and as many tokens as its answer tells."""
    asked, said = member_of(usage, "prompt_tokens"), member_of(usage, "completion_tokens")
    return Activity(asked if isinstance(asked, int) else 0, said if isinstance(said, int) else 0, 1)


def _numbers(value: Any) -> Iterator[float]:
    """The numbers of a vector, or of a matrix (one row per token) row by row."""
    if isinstance(value, list):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def certain_tokens(answer: Any, least_gap_nats: float) -> tuple[str, ...]:
    """The tokens of a completion up to the first whose runner-up is closer than this.

    They are ids ("token_id:42"); where a server does not know how to tell those, texts, up to the first that several
    tokens share: what is no character of its own reads as nothing, or as the sign for it.
    """
    choices = member_of(answer, "choices")
    logprobs = member_of(choices[0] if isinstance(choices, list) and choices else None, "logprobs")
    tokens, tops = member_of(logprobs, "tokens"), member_of(logprobs, "top_logprobs")
    if not isinstance(tokens, list) or not isinstance(tops, list):
        return ()
    certain: list[str] = []
    for token, top in zip(tokens, tops, strict=False):
        ranked = (
            sorted((v for v in top.values() if isinstance(v, int | float)), reverse=True)
            if isinstance(top, Mapping)
            else []
        )
        if not isinstance(token, str) or not token or "\N{REPLACEMENT CHARACTER}" in token:
            break
        # Not a number is not certain either.
        if len(ranked) < 2 or not ranked[0] - ranked[1] >= least_gap_nats:
            break
        certain.append(token)
    return tuple(certain)


def member_of(value: Any, key: str) -> Any:
    """The member of a JSON object; None where it is none or has none."""
    return value.get(key) if isinstance(value, Mapping) else None
