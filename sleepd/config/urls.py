"""The address of a vLLM server: what may stand in `url`, and when two of them mean the same server."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sleepd.config.errors import show
from sleepd.config.values import UNIX_PATH_LIMIT

_WANTED = 'wanted "http://127.0.0.1:PORT", "https://HOST:PORT" or "unix:/path/of.sock"'
_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


class UrlError(ValueError):
    """The text is no address of a server. Its message says what was wanted and what was found."""


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """`text` in its one spelling; `identity` equal means the same server; `local`: only this host reaches it."""

    text: str
    identity: str
    local: bool


def parse_url(text: str) -> ServerUrl:
    """Return the address. Raises UrlError."""
    if text.startswith("unix:"):
        return _parse_unix(text)
    if not text.isprintable() or not text.isascii() or " " in text:
        raise UrlError(f"{_WANTED}, found {show(text)}")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise UrlError(f"{_WANTED}, found {show(text)} ({error})") from None
    host = parts.hostname or ""
    if parts.scheme not in _PORTS or not host or port == 0:
        raise UrlError(f"{_WANTED}, found {show(text)}")
    if parts.username is not None or parts.path not in ("", "/") or "?" in text or "#" in text:
        raise UrlError(f"{_WANTED} without a user, a path or a query, found {show(text)}")
    return _parse_host(text, parts.scheme, host.lower(), port or _PORTS[parts.scheme])


def _parse_unix(text: str) -> ServerUrl:
    path = "/" + text.removeprefix("unix:").lstrip("/")
    if not text.startswith("unix:/") or not path.isprintable() or path.endswith("/"):
        raise UrlError(f"{_WANTED}, found {show(text)}")
    if len(path.encode()) > UNIX_PATH_LIMIT:
        raise UrlError(f"wanted a socket path of at most {UNIX_PATH_LIMIT} bytes, found {len(path.encode())}")
    return ServerUrl(f"unix:{path}", f"unix:{path}", local=True)


def _parse_host(text: str, scheme: str, host: str, port: int) -> ServerUrl:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host) or re.fullmatch(r"[0-9.]+", host):
            raise UrlError(f"{_WANTED}, found {show(text)}") from None
        local = host == "localhost"
        return ServerUrl(f"{scheme}://{host}:{port}", f"{'127.0.0.1' if local else host}:{port}", local)
    written = f"[{address}]" if address.version == 6 else str(address)
    return ServerUrl(f"{scheme}://{written}:{port}", f"{written}:{port}", address.is_loopback)
