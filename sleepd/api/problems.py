"""Refusals as exceptions inside the API, and as application/problem+json on the wire."""

import json

from aiohttp import web

from sleepd import wire
from sleepd.core.commands import Answer


class Problem(Exception):
    """A request that is refused; `kind` is one of the contract's."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        wanted: str = "",
        found: str = "",
        hint: str = "",
        status: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.body = wire.problem_body(kind, detail, wanted=wanted, found=found, hint=hint, status=status)
        self.headers = headers

    @classmethod
    def of(cls, answer: Answer, model: str) -> "Problem":
        """Return the refusal that the daemon's answer is."""
        refused = cls("failed", answer.detail)
        refused.status, refused.body = wire.refusal_body(model, answer)
        refused.headers = retry_headers(answer)
        return refused


def retry_headers(answer: Answer) -> dict[str, str] | None:
    """Return the field that says when to come again, where the answer knows."""
    return {"Retry-After": f"{answer.retry_s:.0f}"} if answer.retry_s else None


def respond(status: int, body: wire.Json, headers: dict[str, str] | None = None) -> web.Response:
    """Return the response: problems say so in their content type."""
    content_type = "application/problem+json" if "kind" in body and status >= 400 else "application/json"
    text = json.dumps(body, ensure_ascii=False) + "\n"
    return web.Response(status=status, text=text, content_type=content_type, headers=headers)
