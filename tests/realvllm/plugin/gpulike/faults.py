"""A file through which a test makes one call of the worker fail, hang or take longer.

The file's text is `[fail|hang|delay] CALL [after=N] [s=SECONDS]`, CALL one of sleep, wake_up, reload_weights:

    sleep after=2            the next sleep fails when it has unmapped 2 blocks
    wake_up after=3          the next wake_up fails, out of memory, when it has mapped 3 blocks
    reload_weights after=5   the next reload fails when it has read 5 tensors
    hang wake_up             the next wake_up never comes back
    delay sleep after=1 s=2  the next sleep pauses 2 s when it has unmapped 1 block

N is 0 when left out. The file is removed when it strikes: each strikes once. A call that ends before it got as far as N
leaves it alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

CALLS = ("sleep", "wake_up", "reload_weights")
KINDS = ("fail", "hang", "delay")


class InjectedFault(RuntimeError):
    """Asked for by the test."""


@dataclass(frozen=True)
class Fault:
    kind: str
    call: str
    after: int
    pause_s: float

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Raises ValueError saying which word was not understood."""
        kind, call, after, pause_s = "fail", "", 0, 0.0
        for word in text.split():
            key, _, value = word.partition("=")
            if word in KINDS:
                kind = word
            elif word in CALLS:
                call = word
            elif key == "after" and value.isdecimal():
                after = int(value)
            elif key == "s":
                pause_s = float(value)
            else:
                raise ValueError(f"fault {text!r}: did not understand {word!r}")
        if not call:
            raise ValueError(f"fault {text!r}: wanted one of {', '.join(CALLS)}")
        return cls(kind, call, after, pause_s)


class Faults:
    """What the file says, looked up at each point where a call may go wrong."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def peek(self, call: str) -> Fault | None:
        """The fault waiting for `call`, if any. Raises ValueError when the file cannot be understood."""
        if self._path is None:
            return None
        try:
            fault = Fault.parse(self._path.read_text())
        except FileNotFoundError:
            return None
        return fault if fault.call == call else None

    def strike(self, call: str, done: int, message: str) -> None:
        """`call` has got as far as `done` blocks: fails with `message`, hangs, or pauses if that was asked for here."""
        fault = self.peek(call)
        if fault is None or fault.after != done:
            return
        assert self._path is not None
        self._path.unlink()
        if fault.kind == "fail":
            raise InjectedFault(f"{message} (injected after {done})")
        if fault.kind == "delay":
            time.sleep(fault.pause_s)
        while fault.kind == "hang":
            time.sleep(60)
