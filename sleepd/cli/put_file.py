"""A file of the configuration that somebody asked for: there whole, or as it was."""

import os
import sys
from pathlib import Path

from sleepd.config.errors import ConfigError
from sleepd.config.load import load_config


def put_file(target: Path, text: str, *, replaces: bool = True) -> None:
    """Put the text there, whole or not at all, readable by all; make its folder where there is none. Raises OSError,
    FileExistsError where something is there that it does not replace."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with scratch.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.chmod(0o644)
        if replaces:
            scratch.replace(target)
        else:
            target.hardlink_to(scratch)
    finally:
        scratch.unlink(missing_ok=True)


def fits(folder: Path, command: str) -> bool:
    """Return whether the configuration in the folder holds with the new file; where not, say so on stderr, for this
    command. The file stays all the same."""
    try:
        load_config(folder)
    except ConfigError as error:
        print(error, file=sys.stderr)
        wanted = "it does not go with the other files there: change one of them, then sleepd check"
        print(f"{command}: {wanted}", file=sys.stderr)
        return False
    return True
