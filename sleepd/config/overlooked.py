"""Files that somebody may believe to be read: told, as they are not."""

import os
from difflib import get_close_matches
from pathlib import Path

from sleepd.config.errors import Place, Problem

READ = "read are sleepd.toml and conf.d/*.toml"
LEFT_BEHIND = ("~", ".bak", ".orig", ".old", ".save", ".swp", ".tmp", ".new", ".off", ".disabled", ".example")
"""What editors, and people who turn a file off, append to its name on purpose."""
PACKAGED = (".dpkg-", ".ucf-", ".rpm")
_LISTED = 20


def overlooked(config_dir: Path) -> list[Problem]:
    """Return a warning for each file that looks like configuration and is none of those that are read: in `conf.d` one
    with another suffix, beside `sleepd.toml` one with the right suffix and another name. Reads folders."""
    found = [(config_dir / "conf.d" / name, _suffix_hint(name)) for name in _names(config_dir / "conf.d")]
    found = [(path, hint) for path, hint in found if not path.name.endswith(".toml")]
    for name in _names(config_dir):
        if name != "sleepd.toml" and name.endswith(".toml"):
            found.append((config_dir / name, f"; move it to conf.d/{name}"))
    return [Problem(Place(str(path)), f"is not read: {READ}{hint}") for path, hint in found[:_LISTED]]


def _names(folder: Path) -> list[str]:
    """The files in the folder that nobody put aside on purpose."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file())
    except OSError:
        return []  # whoever reads the files says so
    return [name for name in names if not _put_aside(name)]


def _put_aside(name: str) -> bool:
    hidden = name.startswith((".", "#")) or name.upper().startswith("README")
    return hidden or name.endswith(LEFT_BEHIND) or any(mark in name for mark in PACKAGED)


def _suffix_hint(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    if dot and get_close_matches(suffix.lower(), ["toml"], cutoff=0.75):
        return f"; did you mean {stem}.toml?"
    return "; name it *.toml, or append .off"
