"""Tables of the documentation that are made from the code, between `<!-- made of NAME -->` and `<!-- end -->`."""

import re
from collections.abc import Callable, Mapping, Sequence

_MARK = re.compile(r"<!-- made of (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def with_tables(page: str, tables: Mapping[str, Callable[[], str]]) -> str:
    """Return the page with every marked table written anew. Raises KeyError for a mark nobody knows."""
    return _MARK.sub(lambda found: f"<!-- made of {found[1]} -->\n{tables[found[1]]()}<!-- end -->", page)


def make_table(heads: str, rows: Sequence[str]) -> str:
    """Return a table of Markdown; heads and the cells of rows stand between bars."""
    rule = "|".join("---" for _ in heads.split(" | "))
    return "\n".join([f"| {heads} |", f"|{rule}|", *rows, ""])
