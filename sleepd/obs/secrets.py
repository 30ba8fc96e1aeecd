"""What never stands in a log: keys, wherever a server's words or a command line bring them along."""

import re

_KEYS = (
    re.compile(r"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic)\s+)?)[^\s\"',;}\])]+"),
    re.compile(r"(?i)(\bbearer\s+)[^\s\"',;}\])]+"),
    re.compile(r"(?i)(\b(?:x-)?api[-_]?key[\"']?\s*(?:[:=]\s*|\s)[\"'\[]*)(?!file\b)[^\s\"',;}\])]+"),
)


def mask(text: str) -> str:
    """Return the text with `***` in the place of what follows `Authorization:`, `Bearer` or `--api-key`."""
    for key in _KEYS:
        text = key.sub(r"\1***", text)
    return text
