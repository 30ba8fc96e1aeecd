"""What the command line of a vLLM server says: whether it is one, where it listens, what it serves.

Sources: vLLM 0.8.5 to 0.33, vllm/entrypoints/cli/serve.py and openai/cli_args.py; FastAPI's defaults there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

_MODULES = ("vllm.entrypoints.openai.api_server", "vllm.entrypoints.api_server")
_SCRIPT = re.compile(r"vllm/entrypoints/(openai/)?api_server\.py$")
_PORT = re.compile(r"[0-9]{1,5}")
_PYTHON = re.compile(r"python[\d.]*")
DEFAULT_PORT = 8000
_COMMANDS = {
    "vllm": "serve",
    "vllm.entrypoints.cli.main": "serve",
    "sleepd": "fake-vllm",
    "sleepd.cli.daemon": "fake-vllm",
}
"""By program or module, the command that makes a server of it."""


@dataclass(frozen=True, slots=True)
class ServerArguments:
    """The words behind `vllm serve`."""

    words: tuple[str, ...]

    def value(self, *flags: str) -> str:
        """The first value of the last of these flags; empty where none is given. argparse takes the last one too."""
        found = ""
        for number, word in enumerate(self.words):
            name, equals, value = word.partition("=")
            if name.replace("_", "-") in flags:
                following = self.words[number + 1] if number + 1 < len(self.words) else ""
                found = value if equals else "" if following.startswith("--") else following
        return found

    def has(self, flag: str) -> bool:
        return any(word.replace("_", "-") == flag for word in self.words)

    @property
    def model(self) -> str:
        """What it was told to load; empty where that stands elsewhere (--config)."""
        first = self.words[0] if self.words and not self.words[0].startswith("-") else ""
        return self.value("--model", "--model-tag") or first

    @property
    def name(self) -> str:
        """The name that clients would say: vLLM's default is the model as it was given."""
        return self.value("--served-model-name", "--name") or self.model

    @property
    def port(self) -> int:
        """Where it listens; vLLM's default where none is given, or none that there can be."""
        port = self.value("--port")
        return int(port) if _PORT.fullmatch(port) and 0 < int(port) <= 65535 else DEFAULT_PORT


def read_command(command: Sequence[str]) -> ServerArguments | None:
    """Return the arguments where this is the command line of a vLLM server or of a simulated one; else None.

    What only starts one (sudo, timeout, uv run, docker run) is none: its child is.
    """
    words = list(command)
    if words and _PYTHON.fullmatch(PurePosixPath(words[0]).name):
        words = _behind_python(words[1:])
    if not words:
        return None
    program = PurePosixPath(words[0]).name
    if program in _MODULES or _SCRIPT.search(words[0]):
        return ServerArguments(tuple(words[1:]))
    return ServerArguments(tuple(words[2:])) if words[1:2] == [_COMMANDS.get(program)] else None


def _behind_python(words: list[str]) -> list[str]:
    """The script or the module that an interpreter runs, and its arguments; nothing where it runs neither."""
    while words and words[0].startswith("-"):
        if words[0].startswith("-m"):
            return words[1:] if words[0] == "-m" else [words[0].removeprefix("-m"), *words[1:]]
        if words[0] in ("-c", "-"):
            return []
        words = words[2:] if words[0] in ("-W", "-X") else words[1:]
    return words
