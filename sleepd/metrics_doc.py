"""The tables of docs/metrics.md, written from the families: `python -m sleepd.metrics_doc docs/metrics.md`.

Everything between `<!-- made of NAME -->` and `<!-- end -->` is replaced; the sentences around it are written by hand
(tests/docs compares).
"""

import sys
from pathlib import Path

from sleepd.made_tables import make_table, with_tables
from sleepd.obs.families import FAMILIES, Family


def metrics_page(page: str) -> str:
    """Return the page with every marked table written anew. Raises KeyError for a mark nobody knows."""
    return with_tables(page, {"families": _families})


def _families() -> str:
    sections = []
    for section in dict.fromkeys(family.section for family in FAMILIES):
        rows = [_row(family) for family in FAMILIES if family.section == section]
        sections.append(f"\n### {section}\n\n{make_table('name | type | labels | meaning', rows)}")
    return "".join(sections) + "\n"


def _row(family: Family) -> str:
    labels = " ".join(f"`{label}`" for label in family.labels) or "–"
    return f"| `{family.name}` | {family.kind} | {labels} | {family.meaning} |"


if __name__ == "__main__":
    _page = Path(sys.argv[1])
    _page.write_text(metrics_page(_page.read_text(encoding="utf-8")), encoding="utf-8")
