"""The tables of docs/api.md, written from the route table and the shapes: `python -m sleepd.api_doc docs/api.md`.

Everything between `<!-- made of NAME -->` and `<!-- end -->` is replaced; the sentences around it are written by hand
(tests/docs compares).
"""

import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sleepd.api.access import Role
from sleepd.api.openapi import describe
from sleepd.api.route import Route
from sleepd.api.routes import ROUTES
from sleepd.made_tables import make_table, with_tables
from sleepd.wire.problems import PROBLEMS


def api_page(page: str) -> str:
    """Return the page with every marked table written anew. Raises KeyError for a mark nobody knows."""
    return with_tables(page, _TABLES)


def _routes() -> str:
    rows = [
        f"| `{route.method}` | `{route.path}` | {route.role.name.lower()} | {_answer(route)}{route.meaning} |"
        for route in ROUTES
    ]
    return make_table("method | path | role | answer", rows)


def _answer(route: Route) -> str:
    shape = next(iter(route.answers.values()), dict)
    return "" if shape in (dict, str, type(None)) else f"[{shape.__name__}](#{shape.__name__.lower()}): "


def _fields() -> str:
    rows = [
        f"| {route.verb} | `{field.name}` | {field.meaning} | {field.wanted} | {_default(field.default)} |"
        for route in ROUTES
        for field in route.fields
    ]
    return make_table("route | field | meaning | wanted | default", rows)


def _default(value: object) -> str:
    if value is None:
        return "none"
    return '`""`' if value == "" else f"`{str(value).lower()}`"


def _shapes() -> str:
    """Return a section for each shape, a row for each of its fields; enumerations stand where they are used."""
    schemas, sections = describe(ROUTES)["components"]["schemas"], []
    for name, schema in schemas.items():
        if "properties" not in schema:
            continue
        rows = [
            f"| `{field}` | {_type(of, schemas)} | {' '.join(of['description'].split())} |"
            for field, of in schema["properties"].items()
        ]
        sections.append(f"\n### {name}\n\n{schema['description']}\n\n{make_table('field | type | meaning', rows)}")
    return "".join(sections) + "\n"


def _type(schema: dict[str, Any], schemas: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = str(schema["$ref"].rpartition("/")[2])
        return f"[{name}](#{name.lower()})" if "properties" in schemas[name] else _type(schemas[name], schemas)
    if "anyOf" in schema:
        return " or ".join(_type(one, schemas) for one in schema["anyOf"])
    if "enum" in schema:
        return " ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'], schemas)}"
    name = str(schema["type"])
    return {"integer": "whole number", "boolean": "true or false"}.get(name, name)


def _problems() -> str:
    by_status: dict[int, list[str]] = defaultdict(list)
    for kind, (status, title) in PROBLEMS.items():
        by_status[status].append(f"| `{kind}` | {status} | {title} |")
    return make_table("kind | status | title", [row for rows in by_status.values() for row in rows])


def _roles() -> str:
    names = [f"| {role.name.lower()} | {_of_role(role)} |" for role in sorted(Role, reverse=True)]
    return make_table("role | its own routes", names)


def _of_role(role: Role) -> str:
    return ", ".join(dict.fromkeys(route.verb for route in ROUTES if route.role is role)) or "none in this version"


_TABLES: dict[str, Callable[[], str]] = {
    "routes": _routes,
    "roles": _roles,
    "fields": _fields,
    "shapes": _shapes,
    "problems": _problems,
}

if __name__ == "__main__":
    _page = Path(sys.argv[1])
    _page.write_text(api_page(_page.read_text(encoding="utf-8")), encoding="utf-8")
