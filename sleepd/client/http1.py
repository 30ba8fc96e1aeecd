"""Just enough HTTP/1.1 for one request over a unix socket: http.client alone costs as much as starting Python does.

One connection, one request, one answer with Content-Length, in chunks, or up to the end (RFC 9112, section 6).
"""

from __future__ import annotations

import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_LIMIT = 65_536
HEADERS_LIMIT = 200


class BrokenAnswer(Exception):
    """What came is no whole HTTP answer."""


class Answer:
    """The head of an answer; its body is read by `read` or, as it comes, by `lines`. `close` ends the connection."""

    def __init__(self, connected: socket.socket) -> None:
        """Read the head. Raises OSError, BrokenAnswer, and then the connection is closed."""
        self._socket, self._file = connected, connected.makefile("rb")
        self.status, self.headers = 0, dict[str, str]()
        try:
            self._read_head()
        except BaseException:
            self.close()
            raise

    def _read_head(self) -> None:
        version, _, rest = self._line().partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit() and len(code) == 3):
            raise BrokenAnswer("what answers there does not speak HTTP")
        self.status = int(code)
        while line := self._line():
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
            if len(self.headers) > HEADERS_LIMIT:
                raise BrokenAnswer("the answer has too many headers")

    def read(self) -> bytes:
        """Return the whole body. Raises OSError, BrokenAnswer."""
        return b"".join(self._pieces())

    def lines(self) -> Iterator[bytes]:
        """Yield the body's lines without their ends, each as soon as it is whole. Raises OSError, BrokenAnswer."""
        rest = b""
        for piece in self._pieces():
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
        if rest:
            yield rest

    def abort(self) -> None:
        """Let whoever reads in another thread come to an end."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:  # it is over already
            return

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _pieces(self) -> Iterator[bytes]:
        length = self.headers.get("content-length")
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
        elif length is None:
            while piece := self._file.read1(LINE_LIMIT):
                yield piece
        elif length.isascii() and length.isdigit() and len(length) < 12:
            yield self._exactly(int(length))
        else:
            raise BrokenAnswer("the answer has no length that makes sense")

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = self._line().partition(";")[0].strip()
            try:
                length = int(size, 16)
            except ValueError:
                raise BrokenAnswer("the answer has a chunk without a size") from None
            if length <= 0:
                while self._line():  # trailers
                    pass
                return
            yield self._exactly(length)
            self._line()

    def _exactly(self, length: int) -> bytes:
        body = self._file.read(length)
        if len(body) < length:
            raise BrokenAnswer("the answer broke off")
        return body

    def _line(self) -> str:
        raw = self._file.readline(LINE_LIMIT)
        if not raw.endswith(b"\n"):
            raise BrokenAnswer("the answer broke off" if len(raw) < LINE_LIMIT else "the answer has a line without end")
        return raw.rstrip(b"\r\n").decode("latin-1")


def connect(path: str, timeout_s: float) -> socket.socket:
    """Return a socket connected to `path`. Raises OSError."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(timeout_s)
        connected.connect(path)
    except BaseException:
        connected.close()
        raise
    return connected


def send(connected: socket.socket, method: str, target: str, body: bytes | None) -> Answer:
    """Send one request, and return the head of its answer; the connection is the answer's from then on.

    Raises OSError, BrokenAnswer, and then the connection is closed.
    """
    head = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close"]
    if body is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    try:
        connected.sendall("\r\n".join([*head, "", ""]).encode("ascii") + (body or b""))
        return Answer(connected)
    except BaseException:
        connected.close()
        raise
