"""A model held awake for as long as a block runs, over broken lines and restarts of the daemon."""

from __future__ import annotations

import json
import secrets
import signal
import threading
from contextlib import suppress

from sleepd.client import asks
from sleepd.client.answers import ApiProblem, DaemonUnreachable
from sleepd.client.asks import RETRY_S
from sleepd.client.http1 import Answer, BrokenAnswer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sleepd.client.sync import Client
    from sleepd.wire import shapes


class Holding:
    """`with client.holding("chat") as held:` wakes the model first, keeps it awake, and lets go at the end.

    A stream that breaks is asked for again until the block ends: the daemon keeps a hold for 30 s without its stream.
    `lost` says why the hold is over although the block is not (somebody let go of it), and is empty else.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        hold_id: str | None = None,
        *,
        reason: str = "",
        wake: bool = True,
        timeout_s: float = 600.0,
        on_lost: Callable[[str], None] | None = None,
    ) -> None:
        """`on_lost` is told, in another thread, when `lost` is set. `timeout_s` bounds the wake."""
        self.id = hold_id or f"{model}-{secrets.token_hex(6)}"
        self.model, self.lost = model, ""
        self.hold: shapes.Hold | None = None
        self._client, self._reason, self._wake, self._timeout_s = client, reason, wake, timeout_s
        self._on_lost = on_lost
        self._lock, self._over = threading.Lock(), threading.Event()
        self._stream: Answer | None = None
        self._keeper = threading.Thread(target=self._keep, name=f"hold {self.id}", daemon=True)

    def __enter__(self) -> Holding:
        """Return once the model is awake and held. Raises ApiProblem, DaemonUnreachable."""
        try:
            self._lines = self._attach(wait=True)
            self.hold = json.loads(next(self._lines))
        except (OSError, BrokenAnswer, StopIteration, ValueError):
            self._close_stream()
            raise DaemonUnreachable(f"the daemon at {self._client.socket_path} broke off") from None
        except (KeyboardInterrupt, SystemExit):
            self._close_stream()
            self._let_go()
            raise
        # Signals are the program's: none may be delivered to the thread that only watches a line.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._keeper.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self

    def __exit__(self, *_: object) -> None:
        """Let go; where the daemon cannot be told, it lets go itself within 30 s."""
        self._over.set()
        with self._lock:
            if self._stream is not None:
                self._stream.abort()
        self._keeper.join()
        if not self.lost:
            self._let_go()

    def _let_go(self) -> None:
        with suppress(ApiProblem, DaemonUnreachable):
            self._client.release(self.id)

    def _attach(self, *, wait: bool) -> Iterator[bytes]:
        request = asks.attach(
            self.id, self.model, reason=self._reason, wake=self._wake, wait=wait, timeout_s=self._timeout_s
        )
        stream = self._client.open_stream(request)
        with self._lock:
            self._stream = stream
            if self._over.is_set():
                stream.abort()
        return stream.lines()

    def _keep(self) -> None:
        try:
            while not self._over.is_set() and not self.lost:
                self._read_beats()
                if not self.lost:
                    self._attach_again()
        finally:
            self._close_stream()

    def _read_beats(self) -> None:
        """Return when the stream ended, or broke."""
        with suppress(OSError, BrokenAnswer, ValueError):
            for line in self._lines:
                self._lose(json.loads(line).get("ended", ""))
        self._close_stream()

    def _close_stream(self) -> None:
        with self._lock:
            if self._stream is not None:
                self._stream.close()
                self._stream = None

    def _attach_again(self) -> None:
        """Ask for the stream until there is one, the block ends, or the daemon says no."""
        while not self._over.wait(RETRY_S):
            try:
                self._lines = self._attach(wait=False)
            except DaemonUnreachable:
                continue
            except ApiProblem as problem:
                self._lose(str(problem))
            return

    def _lose(self, why: str) -> None:
        self.lost = why
        if why and self._on_lost is not None:
            self._on_lost(why)
