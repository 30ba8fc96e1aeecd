"""Addresses to listen on, as configured."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sleepd.config.errors import show
from sleepd.config.values import UNIX_PATH_LIMIT


class ListenError(ValueError):
    """The text is no address to listen on. Its message says what was wanted and what was found."""


@dataclass(frozen=True, slots=True)
class Listen:
    """A TCP `host` and `port`, or the `path` of a unix socket; `text` in its one spelling."""

    text: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_local(self) -> bool:
        """Only this host reaches it."""
        if self.path:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_listen(text: str) -> Listen:
    """Return the address of "127.0.0.1:8800", "[::1]:8800" or "unix:/run/x.sock". Raises ListenError."""
    wanted = 'wanted an address such as "127.0.0.1:8800" or "unix:/run/sleepd/gateway.sock"'
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or not path.isprintable() or path.endswith("/"):
            raise ListenError(f"{wanted}, found {show(text)}")
        if len(path.encode()) > UNIX_PATH_LIMIT:
            raise ListenError(f"wanted a socket path of at most {UNIX_PATH_LIMIT} bytes, found {len(path.encode())}")
        return Listen(text, path=path)
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})", text, re.ASCII)
    try:
        parts = urlsplit(f"//{text}") if found else None
        port = parts.port if parts else None
    except ValueError:
        parts = port = None
    if parts is None or not parts.hostname or not port:
        raise ListenError(f"{wanted}, found {show(text)}")
    host = parts.hostname
    if re.fullmatch(r"[0-9.]+|.*:.*", host):
        try:
            host = str(ipaddress.ip_address(host))
        except ValueError:
            raise ListenError(f"{wanted}, found {show(text)}") from None
    return Listen(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", host, port)
