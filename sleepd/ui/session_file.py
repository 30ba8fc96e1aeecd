"""Sessions on disk, so that a restart of the daemon logs nobody out: hashes alone, mode 0600."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sleepd.api.access import Peer, Role
from sleepd.core.units import WallS
from sleepd.ui.sessions import Session

VERSION = 1


def read_sessions(path: Path) -> tuple[Session, ...]:
    """Return the sessions on record; none where there is no file, or one that cannot be understood: who was logged in
    logs in again. Reads a file."""
    try:
        written = json.loads(path.read_bytes())
        if written["version"] != VERSION:
            return ()
        return tuple(_read(each) for each in written["sessions"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def write_sessions(path: Path, sessions: Iterable[Session]) -> None:
    """Put these sessions on record in place of what stands there. Writes a file; raises OSError."""
    text = json.dumps({"version": VERSION, "sessions": [_written(each) for each in sessions]})
    scratch = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
    scratch.replace(path)


def _written(session: Session) -> dict[str, Any]:
    return {
        "key": session.key,
        "uid": session.peer.uid,
        "gids": sorted(session.peer.gids),
        "role": session.role.name,
        "since": session.since_wall_s,
        "until": session.until_wall_s,
    }


def _read(written: dict[str, Any]) -> Session:
    peer = Peer(int(written["uid"]), frozenset(map(int, written["gids"])))
    since, until = (WallS(written[key]) for key in ("since", "until"))
    return Session(str(written["key"]), peer, Role[written["role"]], since, until)
