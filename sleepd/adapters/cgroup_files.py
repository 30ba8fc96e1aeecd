"""Small files of the kernel's, read whole at once: a poll reads several for each server."""

import os
from pathlib import Path


def read_small(file: Path) -> bytes:
    """Return what the file holds. Raises OSError where it is gone or not to be read."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
