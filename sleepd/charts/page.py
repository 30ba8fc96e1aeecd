"""A page that stands alone: it asks for nothing, runs nothing, and reads in any browser, also from a mail."""

from collections.abc import Sequence
from dataclasses import dataclass

from sleepd.charts.markup import element, escaped
from sleepd.charts.style import STYLE

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Content-Security-Policy: whatever a name may hold, the page loads nothing and runs nothing."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; every column but the first `left` ones holds numbers. `label`: what a folded table is called."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    label: str = "as a table"


@dataclass(frozen=True, slots=True)
class Section:
    """`chart`: SVG of this package; with one, the table is folded away below it."""

    heading: str
    about: str = ""
    chart: str = ""
    table: Table | None = None


def make_page(title: str, lead: Sequence[str], sections: Sequence[Section]) -> str:
    """Return the whole document; `lead` are the sentences that it begins with."""
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        element("title", escaped(title)),
        element("style", STYLE),
    ]
    body = [element("h1", escaped(title)), *(element("p", escaped(line)) for line in lead)]
    body += [_section(section) for section in sections]
    whole = element(
        "html", element("head", "\n".join(head)) + element("body", element("main", "\n".join(body))), lang="en"
    )
    return f"<!doctype html>\n{whole}\n"


def _section(section: Section) -> str:
    parts = [element("h2", escaped(section.heading))]
    if section.about:
        parts.append(element("p", escaped(section.about), class_="about"))
    if section.chart:
        parts.append(element("figure", section.chart))
    if section.table is not None:
        table = element(
            "div", _table(section.table), class_="wide", tabindex=0, role="region", aria_label=section.heading
        )
        folded = element("details", element("summary", escaped(section.table.label)) + table)
        parts.append(folded if section.chart else table)
    return element("section", "\n".join(parts))


def _table(table: Table) -> str:
    heads = "".join(
        element("th", escaped(head), scope="col", **_class(column, table)) for column, head in enumerate(table.heads)
    )
    rows = "\n".join(element("tr", _row(row, table)) for row in table.rows)
    return element("table", element("thead", element("tr", heads)) + element("tbody", rows))


def _row(row: Sequence[str], table: Table) -> str:
    first = element("th", escaped(row[0]), scope="row")
    return first + "".join(
        element("td", escaped(cell), **_class(column, table)) for column, cell in enumerate(row[1:], start=1)
    )


def _class(column: int, table: Table) -> dict[str, str]:
    return {"class_": "number"} if column >= table.left else {}
