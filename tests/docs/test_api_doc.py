"""docs/api.md says what the code does: its tables are made from routes, fields, kinds and shapes."""

import re
from pathlib import Path

from sleepd.api.openapi import describe, kinds_of, operation_id
from sleepd.api.routes import ROUTES
from sleepd.api_doc import api_page
from sleepd.client import Client
from sleepd.client.aio import AsyncClient
from sleepd.wire.problems import PROBLEMS

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


def test_the_page_is_what_the_generator_prints() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == api_page(page), "write it anew: python -m sleepd.api_doc docs/api.md"
    for mark in ("routes", "roles", "fields", "problems", "shapes"):
        assert f"<!-- made of {mark} -->" in page


def test_every_route_field_kind_and_shape_is_told() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for route in ROUTES:
        assert f"| `{route.method}` | `{route.path}` | {route.role.name.lower()} |" in page
        for field in route.fields:
            assert f"| {route.verb} | `{field.name}` |" in page
    for kind, (status, _) in PROBLEMS.items():
        assert f"| `{kind}` | {status} |" in page
    for name, schema in describe(ROUTES)["components"]["schemas"].items():
        if "properties" not in schema:
            assert all(f"`{value}`" in page for value in schema["enum"]), name
            continue
        assert f"\n### {name}\n" in page
        assert all(field["description"] for field in schema["properties"].values()), name


def test_operations_have_names_of_their_own_and_known_kinds() -> None:
    names = [operation_id(route) for route in ROUTES]
    assert len(set(names)) == len(names)
    assert {kind for route in ROUTES for kind in kinds_of(route)} <= PROBLEMS.keys()


def test_the_python_examples_are_python_and_call_what_is_there() -> None:
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 2
    for example, client in zip(examples, (Client, AsyncClient), strict=True):
        compile(example, "docs/api.md", "exec")
        called = set(re.findall(r"client\.(\w+)\(", example))
        assert called
        assert called <= set(dir(client))
