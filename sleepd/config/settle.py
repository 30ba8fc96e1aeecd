"""Reading files again while somebody may be writing them: never half a file, never an emptied one.

An editor that truncates and then writes, a copy that is under way, a folder that is being replaced: each looks like a
valid configuration that forgets every model. So a reload waits until nothing has changed for a moment, looks again
afterwards, and refuses what no operator means.
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from sleepd.config.errors import ConfigError, Place, Problem
from sleepd.config.load import PACKAGED_DIR, SHIPPED_DIR, list_folder, load_config
from sleepd.config.settings import Config

QUIET_S = 0.3
"""How long nothing may have changed before a file counts as written."""
RECENT_S = 2.0
"""Files older than this are not waited for."""
TRIES = 30

Look = Mapping[Path, tuple[int, int, int] | None]


def load_settled(
    config_dir: Path,
    running: Config,
    *,
    shipped_dir: Path = SHIPPED_DIR,
    environ: Mapping[str, str] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Config:
    """Return what the files amount to, in place of the `running` settings. Reads files; blocks up to TRIES x QUIET_S.

    Raises ConfigError as load_config does, and where files go on changing, where one that had keys is empty now, and
    where no model would be left.
    """
    before = _look(config_dir, shipped_dir)
    for _ in range(TRIES):
        if _is_recent(before):
            sleep(QUIET_S)
        found: Config | ConfigError
        now = _look(config_dir, shipped_dir)
        if now == before:
            try:
                found = load_config(config_dir, shipped_dir=shipped_dir, environ=environ)
            except ConfigError as error:
                found = error
            now = _look(config_dir, shipped_dir)
            if now == before:
                return _accept(config_dir, found, running, now)
        before = now
    moving = [path for path in before if before[path] is not None] or [config_dir]
    newest = max(moving, key=lambda path: (before[path] or (0, 0, 0))[0])
    raise ConfigError([Problem(Place(str(newest)), "goes on changing while it is read; reload once it is written")])


def _accept(config_dir: Path, found: Config | ConfigError, running: Config, now: Look) -> Config:
    emptied = [path for path in running.filled if _is_emptied(path, now)]
    if emptied:
        told = "is empty, and had keys when it was read last; write a comment into it, or delete it, if that is meant"
        wrong = list(found.problems) if isinstance(found, ConfigError) else []
        raise ConfigError([*wrong, *(Problem(Place(str(path)), told) for path in emptied)])
    if isinstance(found, ConfigError):
        raise found
    managed = len(running.settings.models)
    if managed and not found.settings.models:
        what = f"{managed} models are" if managed > 1 else "1 model is"
        told = f"no model is configured, and {what} managed: a reload does not forget them all; restart for that"
        raise ConfigError([Problem(Place(str(config_dir)), told)])
    return found


def _is_emptied(path: Path, now: Look) -> bool:
    seen = now.get(path)
    return seen is not None and seen[1] == 0 and not path.is_symlink()  # a link to /dev/null is meant


def _look(config_dir: Path, shipped_dir: Path) -> Look:
    """What tells a changed file: time, size and identity of each and of the folders around them."""
    folders = [config_dir, config_dir / "conf.d", shipped_dir if os.path.isdir(shipped_dir) else PACKAGED_DIR]
    paths = [*folders, config_dir / "sleepd.toml"]
    for folder in folders[1:]:
        with contextlib.suppress(OSError):  # whoever reads it says so
            paths += list_folder(folder)
    return {path: _stat(path) for path in paths}


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _is_recent(look: Look) -> bool:
    oldest_ns = (time.time() - RECENT_S) * 1e9
    return any(seen is not None and seen[0] > oldest_ns for seen in look.values())
