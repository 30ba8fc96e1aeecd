"""Something kept at the daemon for as long as a block runs, over broken lines and restarts of the daemon."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress

from sleepd.client.answers import ApiProblem, DaemonUnreachable, broke_off
from sleepd.client.asks import RETRY_S
from sleepd.client.attached_lines import read_begin, read_end
from sleepd.client.http1 import Answer, BrokenAnswer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from sleepd.client.asks import Request
    from sleepd.client.sync import Client


class Attached:
    """What a stream keeps: a hold, a reservation.

    A stream that breaks is asked for again until the block ends: the daemon keeps it for 30 s without its stream.
    `lost` says why it is over although the block is not (somebody ended it), and is empty else.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        ask: Callable[[bool], Request],
        release: Callable[[], object],
        on_lost: Callable[[str], None] | None,
        on_progress: Callable[[Any], None] | None = None,
    ) -> None:
        """`ask` makes the request that opens the stream, which may wait only the first time (True); `release` ends what
        is kept. `on_progress` is told what the beginning waits for; `on_lost`, in another thread, when `lost` is set.
        """
        self.lost = ""
        self._client, self._ask, self._release = client, ask, release
        self._on_lost, self._on_progress = on_lost, on_progress
        self._lock, self._over = threading.Lock(), threading.Event()
        self._stream: Answer | None = None
        self._keeper = threading.Thread(target=self._keep, name=name, daemon=True)

    def _enter(self) -> Any:
        """Return what is kept once it is there and its stream is watched. Raises ApiProblem, DaemonUnreachable."""
        try:
            kept = self._begin()
        except (OSError, BrokenAnswer, StopIteration, ValueError):
            self._close_stream()
            raise broke_off(self._client.socket_path) from None
        except (ApiProblem, DaemonUnreachable):
            self._close_stream()
            raise
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
        return kept

    def _begin(self) -> Any:
        self._lines = self._attach(wait=True)
        while (kept := read_begin(next(self._lines), self._on_progress)) is None:
            pass
        return kept

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
            self._release()

    def _attach(self, *, wait: bool) -> Iterator[bytes]:
        stream = self._client.open_stream(self._ask(wait))
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
                self._lose(read_end(line))
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
