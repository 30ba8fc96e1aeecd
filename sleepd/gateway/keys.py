"""The keys that clients show: read from a file that only its owner may read, compared in constant time."""

import hmac
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

KEYS_LIMIT = 4096
_LINE = re.compile(rb"([A-Za-z0-9][A-Za-z0-9._@-]{0,62}):([!-~]{8,512})")


class KeysRefused(Exception):
    """The file cannot be used; the message says what was wanted, what was found and what to do."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Who may use the gateway: names for the log, keys for the comparison."""

    entries: tuple[tuple[str, bytes], ...]

    def owner_of(self, shown: bytes) -> str | None:
        """Return whose key this is, or None. Takes as long whichever it is, and whether it is one or not."""
        found: str | None = None
        for name, key in self.entries:
            if hmac.compare_digest(key, shown):
                found = name
        return found


def read_keys(path: Path) -> Keys:
    """Return the keys of a file with one "name:key" a line, blank lines and # comments aside. Raises KeysRefused."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(_mode_of(file.fileno(), path))
            text = file.read(1 << 20)
    except OSError as error:
        raise KeysRefused(f"{path}: {error.strerror}; [gateway] api_keys_file wants a file that sleepd can read") from None
    if mode & 0o077:
        raise KeysRefused(f"{path}: wanted mode 0600, found {mode:04o}; chmod 0600 {path}")
    entries: dict[str, bytes] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(b"#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise KeysRefused(f"{path}:{number}: wanted NAME:KEY, the key of 8 to 512 printable characters without blanks")
        name = found[1].decode()
        if name in entries or found[2] in entries.values():
            raise KeysRefused(f"{path}:{number}: wanted each name and key once, found {name} again or its key")
        entries[name] = found[2]
    if not entries:
        raise KeysRefused(f"{path}: wanted at least one line NAME:KEY, found none; nobody could use the gateway")
    if len(entries) > KEYS_LIMIT:
        raise KeysRefused(f"{path}: wanted at most {KEYS_LIMIT} keys, found {len(entries)}")
    return Keys(tuple(entries.items()))


def _mode_of(descriptor: int, path: Path) -> int:
    found = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(found):
        raise KeysRefused(f"{path}: wanted a file, found something else")
    return found
