"""sleepctl as a process: on pipes, or on a pseudo-terminal of 80 columns that it controls."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from dataclasses import dataclass

SLEEPCTL = [sys.executable, "-m", "sleepd.cli.ctl"]
LIMIT_S = 30.0

_TAKE_TERMINAL = (
    "import fcntl,os,sys,termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


@dataclass
class Ran:
    code: int
    out: str
    err: str


async def start(*words: str, **environ: str) -> asyncio.subprocess.Process:
    """Return the process, its output on pipes."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *SLEEPCTL, *words, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=_environ(environ)
    )


async def run(*words: str, **environ: str) -> Ran:
    return await finish(await start(*words, **environ))


async def finish(process: asyncio.subprocess.Process) -> Ran:
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())


def _environ(more: dict[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS", "LINES")}
    return kept | {"PYTHONUTF8": "1", "TERM": "xterm-256color"} | more


class Terminal:
    """A process whose controlling terminal this is; what it writes is read as it comes."""

    def __init__(self, process: asyncio.subprocess.Process, ours: int) -> None:
        self._process, self._ours, self.shown = process, ours, ""

    @classmethod
    async def open(cls, *words: str, columns: int = 80, program: str | None = None, **environ: str) -> Terminal:
        """Start sleepctl with these words; `program`: Python that does so in its own way."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.set_blocking(ours, False)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _TAKE_TERMINAL),
            *(SLEEPCTL if program is None else (sys.executable, "-c", program)),
            *words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=_environ(environ),
            start_new_session=True,
        )
        os.close(theirs)
        return cls(process, ours)

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def see(self, text: str) -> None:
        """Return once this was shown."""
        async with asyncio.timeout(LIMIT_S):
            while text not in self.shown:
                self._read()
                await asyncio.sleep(0.01)

    async def end(self) -> int:
        """Return the exit code; `shown` is everything it wrote."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while self._process.returncode is None:
                    self._read()
                    await asyncio.sleep(0.01)
            self._read()
        finally:
            if self._process.returncode is None:
                self._process.kill()
            code = await self._process.wait()
            os.close(self._ours)
        return code

    def _read(self) -> None:
        try:
            self.shown += os.read(self._ours, 65_536).decode()
        except (BlockingIOError, OSError):  # nothing yet; or its last process ended
            return
