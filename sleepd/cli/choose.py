"""Which models are meant: names, globs, --all."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

from sleepd.client import ApiProblem

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from sleepd.client import Client


def choose(client: Client, options: argparse.Namespace) -> list[str]:
    """Return the models that were meant; only globs and --all ask the daemon for its list."""
    if not options.all and not any(set("*?[") & set(pattern) for pattern in options.models):
        return list(dict.fromkeys(options.models))
    names = [model["name"] for model in client.models().body["models"]]
    return names if options.all else match(options.models, names)


def match(patterns: list[str], names: list[str]) -> list[str]:
    """Return the names each pattern means. Raises ApiProblem where one means none."""
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            body = {"kind": "unknown_model", "title": "no such model", "detail": f"no model matches {pattern}"}
            raise ApiProblem(404, body | {"hint": f"there are: {', '.join(names) or 'none'}"}, json.dumps(body))
        chosen |= dict.fromkeys(found)
    return list(chosen)
