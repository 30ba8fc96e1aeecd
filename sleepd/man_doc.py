"""The manuals, written from the pages of the reference: `python -m sleepd.man_doc docs DIRECTORY`.

sleepd(8), sleepctl(1) and sleepd.toml(5) say what docs/sleepd.md, docs/sleepctl.md and docs/configuration.md say, whose
tables are made from the code. A table becomes a list of what its first column names. Sources: groff_man(7) and
man-pages(7).
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from sleepd import __version__

_MADE = "The tables are made from the code"
"""Begins the one paragraph of a page that is for those who change it."""
_ESCAPED = {"\\": "\\e", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", "-": "\\-"}


@dataclass(frozen=True, slots=True)
class Manual:
    """One manual: its name and section, what it is about in a line, how it is called, the page it says."""

    name: str
    section: int
    about: str
    usage: Sequence[str]
    page: str
    see_also: str

    @property
    def file(self) -> str:
        return f"{self.name}.{self.section}"


MANUALS = (
    Manual(
        *("sleepd", 8, "puts idle vLLM servers to sleep and wakes them on demand"),
        usage=("sleepd COMMAND [OPTION]...",),
        page="sleepd.md",
        see_also="sleepctl(1), sleepd.toml(5)",
    ),
    Manual(
        *("sleepctl", 1, "see, wake and put to sleep what sleepd manages"),
        usage=("sleepctl [--socket PATH] [--json] COMMAND [OPTION]... [MODEL]...",),
        page="sleepctl.md",
        see_also="sleepd(8), sleepd.toml(5)",
    ),
    Manual(
        *("sleepd.toml", 5, "configuration of sleepd"),
        usage=("/usr/lib/sleepd/conf.d/*.toml", "/etc/sleepd/sleepd.toml", "/etc/sleepd/conf.d/*.toml"),
        page="configuration.md",
        see_also="sleepd(8), sleepctl(1)",
    ),
)


def write_manual(manual: Manual, page: str) -> str:
    """Return the manual as roff. Raises KeyError for an element of Markdown that no manual has yet."""
    tree = SyntaxTreeNode(MarkdownIt("commonmark", {"html": True}).enable("table").parse(page))
    lines = [
        f'.TH {manual.name} {manual.section} "" "sleepd {__version__}"',
        *(".SH NAME", f"{_text(manual.name)} \\- {_text(manual.about)}", ".SH SYNOPSIS", ".nf"),
        *(f"\\fB{_text(line)}\\fR" for line in manual.usage),
        *(".fi", ".SH DESCRIPTION"),
        *_blocks(tree.children),
        *(".SH SEE ALSO", f"{_text(manual.see_also)}; all documents: /usr/share/doc/sleepd"),
    ]
    return "\n".join([*lines, ""])


def _blocks(nodes: Sequence[SyntaxTreeNode]) -> Iterator[str]:
    for node in nodes:
        match node.type:
            case "heading":
                # The page's own title says what NAME says.
                if node.tag != "h1":
                    yield f'{".SH" if node.tag == "h2" else ".SS"} "{_inline(node, upper=node.tag == "h2")}"'
            case "paragraph":
                if not _plain(node).startswith(_MADE):
                    yield from (".PP", _line(_inline(node)))
            case "bullet_list":
                for item in node.children:
                    yield from (".IP \\(bu 3", *_item(item))
            case "ordered_list":
                for number, item in enumerate(node.children, 1):
                    yield from (f".IP {number}. 3", *_item(item))
            case "fence":
                yield from (".PP", ".RS 4", ".EX", *(_line(_text(line)) for line in node.content.splitlines()))
                yield from (".EE", ".RE")
            case "table":
                yield from _table(node)
            case "html_block" | "hr":
                pass
            case other:
                raise KeyError(f"no manual has a {other} yet")


def _item(item: SyntaxTreeNode) -> Iterator[str]:
    """The first paragraph on the item's own line; what follows below it, as far in."""
    first, *rest = item.children
    yield _line(_inline(first))
    if rest:
        yield from (".RS 3", *_blocks(rest), ".RE")


def _table(table: SyntaxTreeNode) -> Iterator[str]:
    """A definition for each row: the first cell is what is defined, the others say it under their heads."""
    head, body = table.children
    heads = [_plain(cell) for cell in head.children[0].children]
    for row in body.children:
        first, *others = row.children
        for number, part in enumerate(_parts(first)):
            yield from (".TP" if not number else ".TQ", _line(part))
        yield from _definition(list(zip(heads[1:], others, strict=True)))


def _definition(cells: Sequence[tuple[str, SyntaxTreeNode]]) -> Iterator[str]:
    sentences: list[str] = []
    nested: list[str] = []
    for number, (head, cell) in enumerate(cells):
        parts = [part for part in _parts(cell) if part not in ("", "\\-")]
        if head == "options":
            nested += [line for part in parts for line in _option(part)]
        elif parts:
            said = "; ".join(parts)
            sentences.append(f"{head[:1].upper()}{head[1:]}: {said}." if number else f"{said.removesuffix('.')}.")
    yield _line(" ".join(sentences))
    if nested:
        yield from (".RS", *nested, ".RE")


def _option(part: str) -> Iterator[str]:
    flag, _, meaning = part.partition("\\fR ")
    yield from (".TP", f"{flag}\\fR", _line(meaning))


def _parts(cell: SyntaxTreeNode) -> list[str]:
    return [part.strip() for part in _inline(cell).split("\n.br\n")]


def _inline(node: SyntaxTreeNode, *, upper: bool = False) -> str:
    return "".join(_spans(node.children, upper=upper)).strip()


def _spans(nodes: Sequence[SyntaxTreeNode], *, upper: bool = False) -> Iterator[str]:
    for node in nodes:
        match node.type:
            case "text":
                yield _text(node.content.upper() if upper else node.content)
            case "code_inline":
                yield f"\\fB{_text(node.content)}\\fR"
            case "em":
                yield f"\\fI{_inline(node)}\\fR"
            case "strong":
                yield f"\\fB{_inline(node)}\\fR"
            case "softbreak":
                yield "\n"
            case "html_inline":
                yield "\n.br\n" if node.content == "<br>" else ""
            case "inline" | "link":
                yield from _spans(node.children, upper=upper)
            case other:
                raise KeyError(f"no manual has a {other} yet")


def _plain(node: SyntaxTreeNode) -> str:
    return "".join(found.content for found in node.walk() if found.type in ("text", "code_inline"))


def _text(text: str) -> str:
    return "".join(_ESCAPED.get(char, char) for char in text)


def _line(text: str) -> str:
    """Text that may stand where roff looks for requests: no line of it is taken for one."""
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


if __name__ == "__main__":
    docs, target = Path(sys.argv[1]), Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    for one in MANUALS:
        (target / one.file).write_text(
            write_manual(one, (docs / one.page).read_text(encoding="utf-8")), encoding="utf-8"
        )
