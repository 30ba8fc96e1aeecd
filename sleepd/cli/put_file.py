"""A file that somebody asked for: there whole, or as it was."""

import os
from pathlib import Path


def put_file(target: Path, text: str) -> None:
    """Put the text there, whole or not at all, readable by all; make its folder where there is none. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with scratch.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.chmod(0o644)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
