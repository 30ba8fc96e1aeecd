"""The route table as an OpenAPI 3.1 document: bodies from the fields that check them, answers from the shapes."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pydantic import TypeAdapter

from sleepd import __version__
from sleepd.api.access import Role
from sleepd.api.fields import BODY_LIMIT, Field, Flag, body_schema
from sleepd.api.route import HOLD_ID, Route
from sleepd.wire.problems import PROBLEMS
from sleepd.wire.shapes import Problem

_IN_PATHS: dict[str, dict[str, Any]] = {
    "models/{name}": {"type": "string", "pattern": r"^[a-z0-9][a-z0-9._-]{0,62}$", "description": "as configured"},
    "holds/{id}": {"type": "string", "pattern": f"^{HOLD_ID}$", "description": "chosen by the client"},
    "reservations/{id}": {"type": "string", "pattern": f"^{HOLD_ID}$", "description": "chosen by the client"},
    "tasks/{id}": {"type": "integer", "minimum": 1, "description": "rising, never used twice"},
}
"""What stands in a path, by its place there."""


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """Return the whole document."""
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in routes:
        paths[route.path][route.method.lower()] = _operation(route)
    shapes = {Problem}.union(*([*route.answers.values(), *route.stream] for route in routes)) - {dict, str, type(None)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sleepd",
            "version": __version__,
            "description": "The socket API: HTTP/1.1 over a unix socket. Who may do what is decided by the peer's user"
            " and groups ([api.roles]).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://localhost", "description": "over /run/sleepd/sleepd.sock"}],
        "paths": dict(paths),
        "components": {"schemas": _schemas(sorted(shapes, key=lambda shape: shape.__name__))},
    }


def _operation(route: Route) -> dict[str, Any]:
    needs = "Open to all." if route.role is Role.ANYONE else f"Needs the role {route.role.name.lower()}."
    operation: dict[str, Any] = {
        "operationId": operation_id(route),
        "summary": route.meaning,
        "description": needs,
        "parameters": _parameters(route),
        "responses": _responses(route),
    }
    if route.fields:
        schema = body_schema(route.fields) | dict(route.body_rule)
        operation["requestBody"] = {
            "content": {"application/json": {"schema": schema}},
            "required": bool(schema["required"]),
        }
    return operation


def operation_id(route: Route) -> str:
    """Return a name no other route has, such as "post_models_name_wake"."""
    words = [word.strip("{}").removesuffix(".json") for word in route.path.removeprefix("/v1").split("/") if word]
    return "_".join([route.method.lower(), *words])


def _parameters(route: Route) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    words = route.path.split("/")
    for before, word in pairwise(words):
        if word.startswith("{"):
            found.append({"name": word.strip("{}"), "in": "path", "required": True} | _told_of(f"{before}/{word}"))
    found += [_query_parameter(field) for field in route.query]
    return found


def _told_of(place: str) -> dict[str, Any]:
    schema = dict(_IN_PATHS[place])
    return {"description": schema.pop("description"), "schema": schema}


def _query_parameter(field: Field) -> dict[str, Any]:
    schema = {"enum": ["true", "false"], "default": "true"} if isinstance(field, Flag) else field.schema
    return {"name": field.name, "in": "query", "required": False, "description": field.meaning, "schema": schema}


def _responses(route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, shape in route.answers.items():
        if shape is type(None):
            responses[str(status)] = {"description": _told(status)}
            continue
        if shape is str:
            text = {"schema": {"type": "string"}}
            content = {"text/plain": text, "application/openmetrics-text": text}
            responses[str(status)] = {"description": _told(status), "content": content}
            continue
        media_type = "application/problem+json" if shape is Problem else "application/json"
        responses[str(status)] = {"description": _told(status), "content": {media_type: {"schema": _ref(shape)}}}
    if route.stream:
        # A stream of many, which no JSON Schema describes: its pieces are these.
        content = responses.setdefault("200", {"description": "a stream", "content": {}})["content"]
        pieces = ", ".join(shape.__name__ for shape in route.stream)
        content[route.stream_type] = {"schema": {"type": "string", "description": f"one after the other: {pieces}"}}
    by_status: dict[int, list[str]] = defaultdict(list)
    for kind in kinds_of(route):
        by_status[PROBLEMS[kind][0]].append(kind)
    if route.takes_body:
        responses["413"] = _refusal(f"`invalid`: the body is larger than {BODY_LIMIT} bytes")
    for status, kinds in sorted(by_status.items()):
        responses[str(status)] = _refusal(", ".join(f"`{kind}`: {PROBLEMS[kind][1]}" for kind in kinds))
    return responses


def kinds_of(route: Route) -> tuple[str, ...]:
    """Return every kind of refusal the route may give."""
    usual = () if route.role is Role.ANYONE else ("not_permitted",)
    checked = ("invalid",) if route.takes_body or route.query or "{id}" in route.path else ()
    return tuple(dict.fromkeys((*checked, *usual, *route.kinds)))


def _told(status: int) -> str:
    return {200: "done", 202: "accepted", 204: "let through", 404: "not known", 422: "not valid", 503: "not yet"}[
        status
    ]


def _refusal(told: str) -> dict[str, Any]:
    return {"description": told, "content": {"application/problem+json": {"schema": _ref(Problem)}}}


def _ref(shape: type) -> dict[str, Any]:
    return {"type": "object"} if shape is dict else {"$ref": f"#/components/schemas/{shape.__name__}"}


def _schemas(shapes: Sequence[type]) -> dict[str, Any]:
    """Return the JSON Schema of every shape and of what they are made of."""
    found: dict[str, Any] = {}
    for shape in shapes:
        schema = TypeAdapter(shape).json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {})
        found[shape.__name__] = schema
    return dict(sorted(found.items()))
