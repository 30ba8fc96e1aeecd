"""docs/api.md says what the code does: routes, fields, kinds, Model."""

import re
from pathlib import Path

from api_rig import FakeDaemon

from sleepd import wire
from sleepd.api.fields import Field
from sleepd.api.routes import ROUTES

DOC = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    below = DOC.split(f"\n{heading}\n", 1)[1].splitlines()
    first = next(n for n, line in enumerate(below) if line.startswith("|---"))
    table = []
    for line in below[first + 1 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return table


def test_the_route_table_is_the_code_s() -> None:
    assert [(r[0], r[1], r[2]) for r in rows("## Routes")] == [
        (f"`{route.method}`", f"`{route.path}`", route.role.name.lower()) for route in ROUTES
    ]


def test_every_field_of_every_body_is_told_with_its_default() -> None:
    def shown(field: Field) -> str:
        return f"`{str(field.default).lower()}`"

    assert [(row[0], row[1], row[3]) for row in rows("### Request bodies")] == [
        (route.verb, f"`{field.name}`", shown(field)) for route in ROUTES for field in route.fields
    ]


def test_every_kind_has_the_status_that_is_told() -> None:
    told = {kind: int(row[1][:3]) for row in rows("## Problems") for kind in re.findall(r"`(\w+)`", row[0])}
    assert told == {kind: status for kind, (status, _) in wire.PROBLEMS.items()}


def test_every_field_of_a_model_is_told() -> None:
    told = {name for row in rows("### Model") for name in re.findall(r"`(\w+)`", row[0])}
    assert told == wire.model_body(FakeDaemon(), "chat").keys()
