"""Programs of benchmarks/, which import what lies beside them as they do when they are run."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType


def load_benchmark(name: str) -> ModuleType:
    """Return the program as a module."""
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return import_module(name)
    finally:
        sys.path.remove(folder)
