"""Elements of HTML and SVG, with everything escaped that may come from somebody else."""

from html import escape


def escaped(text: object) -> str:
    """Return the text as content or as a quoted attribute: marks escaped, characters that XML forbids left out."""
    return escape("".join(char if char.isprintable() else " " for char in str(text)))


def element(tag: str, body: str = "", **attributes: object) -> str:
    """Return one element; `body` is markup already. `class_` is written class, `text_anchor` text-anchor.

    A number is written with two places at most: charts are drawn in hundredths of a pixel.
    """
    written = "".join(f' {name.rstrip("_").replace("_", "-")}="{_value(value)}"' for name, value in attributes.items())
    return f"<{tag}{written}>{body}</{tag}>"


def _value(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else escaped(value)


def text_at(x: float, y: float, text: str, class_: str = "", anchor: str = "start") -> str:
    """Return a line of text in a chart, its baseline at `y`."""
    return element("text", escaped(text), x=x, y=y, class_=class_ or "word", text_anchor=anchor)


def figure(name: str, width: float, height: float, title: str, about: str, body: str) -> str:
    """Return an SVG image with a title and a description that a screen reader tells. `name` is unique on its page."""
    head = element("title", escaped(title), id=f"{name}-title") + element("desc", escaped(about), id=f"{name}-about")
    return element(
        *("svg", head + body),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-about",
    )
