"""The routes that exist, as one table. Whatever is not in it is never forwarded.

The inference routes of vLLM (its OpenAPI document and vllm/entrypoints, 0.9 to 0.33). No LoRA loading, no dev and no
operator's route stands here, and a path is compared byte for byte: nothing is decoded, joined or cut before.
"""

import re
from dataclasses import dataclass
from enum import Enum

from sleepd.gateway.errors import Dialect, Refusal


class Body(Enum):
    """Where a request names its model."""

    JSON = "json"
    MULTIPART = "multipart"
    NONE = "none"
    """In no body: by the id in its path, or it is a page of the gateway's own."""


class Page(Enum):
    """What the gateway answers by itself."""

    MODELS = "models"
    MODEL = "model"
    GATE = "gate"


@dataclass(frozen=True, slots=True)
class Route:
    """`streams`: a body may ask for server-sent events. `learns`: its answers carry ids that later requests name."""

    methods: tuple[bytes, ...]
    body: Body = Body.JSON
    dialect: Dialect = Dialect.OPENAI
    streams: bool = False
    learns: bool = False
    page: Page | None = None


_POST, _GET = (b"POST",), (b"GET",)
_PLAIN = Route(_POST)
_STREAMS = Route(_POST, streams=True)
_AUDIO = Route(_POST, body=Body.MULTIPART)

ROUTES: dict[bytes, Route] = {
    b"/v1/chat/completions": _STREAMS,
    b"/v1/chat/completions/batch": _PLAIN,
    b"/v1/completions": _STREAMS,
    b"/v1/responses": Route(_POST, streams=True, learns=True),
    b"/v1/messages": Route(_POST, dialect=Dialect.ANTHROPIC, streams=True),
    b"/v1/messages/count_tokens": Route(_POST, dialect=Dialect.ANTHROPIC),
    b"/v1/embeddings": _PLAIN,
    b"/v2/embed": _PLAIN,
    b"/v1/audio/transcriptions": _AUDIO,
    b"/v1/audio/translations": _AUDIO,
    b"/rerank": _PLAIN,
    b"/v1/rerank": _PLAIN,
    b"/v2/rerank": _PLAIN,
    b"/score": _PLAIN,
    b"/v1/score": _PLAIN,
    b"/classify": _PLAIN,
    b"/pooling": _PLAIN,
    b"/generative_scoring": _PLAIN,
    b"/inference/v1/generate": _PLAIN,
    b"/tokenize": _PLAIN,
    b"/detokenize": _PLAIN,
    b"/v1/models": Route((b"GET", b"HEAD"), body=Body.NONE, page=Page.MODELS),
}

_BY_NAME: tuple[tuple[re.Pattern[bytes], Route], ...] = (
    (re.compile(rb"/v1/responses/([A-Za-z0-9_-]{1,128})"), Route(_GET, body=Body.NONE)),
    (re.compile(rb"/v1/responses/([A-Za-z0-9_-]{1,128})/cancel"), Route(_POST, body=Body.NONE)),
    (re.compile(rb"/v1/models/([A-Za-z0-9._:@/-]{1,256})"), Route((b"GET", b"HEAD"), body=Body.NONE, page=Page.MODEL)),
    (re.compile(rb"/gate/([A-Za-z0-9._:@%/-]{1,256})"), Route(_GET, body=Body.NONE, page=Page.GATE)),
)
"""Routes with a name in their path: a response's id, or a model's."""

_TARGET = re.compile(rb"[!$%&'()*+,./:;=?@A-Z_a-z~0-9-]+")


def find_route(target: bytes) -> tuple[Route, str]:
    """Return the route of a request target and the name in its path, empty where there is none. Raises Refusal."""
    path, _, query = target.partition(b"?")
    route = ROUTES.get(path)
    if route is not None:
        if query and not _TARGET.fullmatch(query):
            raise _bad_target(target)
        return route, ""
    if path[:1] != b"/" or path[:2] == b"//" or not _TARGET.fullmatch(target):
        raise _bad_target(target)
    segments = path.split(b"/")
    for pattern, named in _BY_NAME:
        found = pattern.fullmatch(path)
        if found is not None and b"." not in segments and b".." not in segments and b"" not in segments[1:]:
            return named, found[1].decode()
    raise Refusal(404, "unknown_url", f"there is no {show(path)} here; docs/gateway.md lists every route")


def _bad_target(target: bytes) -> Refusal:
    return Refusal(400, "bad_target", f"wanted a path such as /v1/chat/completions, found {show(target)}", closes=True)


def show(raw: bytes) -> str:
    """Return bytes of a client as short printable text."""
    return ascii(raw[:80].decode("latin-1"))[1:-1] + ("…" if len(raw) > 80 else "")
