"""A real terminal without a window: tmux runs a shell, takes keys, and tells what stands on its screen."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from tests.integration.waiting import WAIT_LIMIT_S, wait_until

PROMPT = "shell-is-here$"


class Tmux:
    """`with Tmux(folder) as tmux`: a shell on a screen of 80 by 24, with this environment. Its server ends with it."""

    def __init__(self, folder: Path, width: int = 80, height: int = 24, **environ: str) -> None:
        self._socket, self._size, self._environ = folder / "tmux.sock", (width, height), environ

    def __enter__(self) -> Tmux:
        width, height = map(str, self._size)
        shell = ["env", "-u", "NO_COLOR", "LANG=C.UTF-8", f"PS1={PROMPT} "]
        shell += [f"{name}={value}" for name, value in self._environ.items()]
        command = shlex.join([*shell, "bash", "--norc", "--noprofile"])
        # -f: no configuration of whoever runs this.
        self._tell("-f", "/dev/null", "new-session", "-d", "-x", width, "-y", height, command)
        self.see(PROMPT)
        return self

    def __exit__(self, *failure: object) -> None:
        self._tell("kill-server")

    def type(self, *keys: str) -> None:
        """Press keys, each a character or a name of tmux's, such as Enter, Up, C-c."""
        self._tell("send-keys", *keys)

    def run(self, command: str) -> None:
        """Type a command into the shell."""
        self._tell("send-keys", "-l", command)
        self.type("Enter")

    def resize(self, width: int, height: int) -> None:
        self._tell("resize-window", "-x", str(width), "-y", str(height))

    def screen(self) -> str:
        """Return what stands on the screen now."""
        return self._tell("capture-pane", "-p")

    def coloured(self) -> str:
        """Return the same with the sequences that colour it."""
        return self._tell("capture-pane", "-p", "-e", "-N")

    def record(self, file: Path) -> None:
        """From now on what programs send to the terminal is written to the file, too."""
        self._tell("pipe-pane", f"cat > {shlex.quote(str(file))}")

    def flag(self, name: str) -> str:
        """Return what tmux knows of the terminal, such as alternate_on or cursor_flag."""
        return self._tell("display-message", "-p", f"#{{{name}}}").strip()

    def see(self, *texts: str, limit_s: float = WAIT_LIMIT_S) -> str:
        """Return the screen once all of these stand on it at the same time."""
        last = ""

        def seen() -> str | None:
            nonlocal last
            last = self.screen()
            return last if all(text in last for text in texts) else None

        try:
            return wait_until(seen, f"the screen to show {texts}", limit_s) or ""
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{last}") from None

    def _tell(self, *words: str) -> str:
        environ = {name: value for name, value in os.environ.items() if name not in ("TMUX", "TMUX_PANE")}
        told = subprocess.run(
            ["tmux", "-S", str(self._socket), "-u", *words],
            capture_output=True,
            text=True,
            env=environ | {"LANG": "C.UTF-8"},
            timeout=WAIT_LIMIT_S,
        )
        assert told.returncode == 0, f"tmux {' '.join(words)}: {told.stderr}"
        return told.stdout
