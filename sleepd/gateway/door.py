"""Who may come in at a listener: by key, or without one only from this host's own programs, never from a web page.

An open listener is reached by every web page that a browser on this host shows: by its Origin, or under a name of the
page's own that was made to resolve to 127.0.0.1 (DNS rebinding). So Host and Origin are checked there.
"""

from __future__ import annotations

import hmac
import ipaddress

from sleepd.gateway.errors import Refusal
from sleepd.gateway.exchange import Exchange
from sleepd.gateway.head import credentials_of
from sleepd.gateway.keys import Keys
from sleepd.gateway.routes import show

_EXPOSED = b"access-control-expose-headers: x-sleepd-model, x-sleepd-waited-ms, x-request-id, retry-after\r\n"
_PREFLIGHT = (
    b"access-control-allow-methods: GET, POST\r\n"
    b"access-control-allow-headers: authorization, content-type, x-api-key, anthropic-version, anthropic-beta, "
    b"x-request-id, x-stainless-arch, x-stainless-lang, x-stainless-os, x-stainless-package-version, "
    b"x-stainless-retry-count, x-stainless-runtime, x-stainless-runtime-version, x-stainless-timeout\r\n"
    b"access-control-max-age: 600\r\n"
)


class Door:
    """The rules of one listener. `by_name`: reached over TCP, so that Host says under which name."""

    __slots__ = ("_origins", "by_name", "keys")

    def __init__(self, keys: Keys | None, origins: tuple[str, ...], *, by_name: bool) -> None:
        self.keys, self.by_name = keys, by_name
        self.allow(origins)

    def allow(self, origins: tuple[str, ...]) -> None:
        """Let web pages of these origins in."""
        self._origins = frozenset(origin.encode() for origin in origins)

    def admit(self, x: Exchange, host: bytes) -> None:
        """Let the request in: who it is, which of its credentials go on, and its CORS fields are set. Raises Refusal.

        A key that its connection showed before is compared with that one only.
        """
        if x.origin:
            self._look_at_origin(x)
        keys = self.keys
        if keys is None:
            if x.foreign and not x.cors:
                # A picture or a link of a web page comes without Origin: GET /gate/{name} wakes a model.
                raise _forbidden("foreign_origin", "wanted no request of a foreign web page, found Sec-Fetch-Site")
            if self.by_name and host not in _OWN and host and not is_own_name(host):
                raise _forbidden("foreign_host", f"wanted a Host such as localhost or 127.0.0.1, found {show(host)}")
            if x.authorization or x.api_key:
                x.credentials = credentials_of(x)
            return
        client, sent = x.client, x.authorization or x.api_key
        if client.verified_by is keys and hmac.compare_digest(sent, client.verified):
            x.who = client.who
            return
        bearer = sent[:7].lower() == b"bearer "
        shown = sent[7:] if bearer else x.api_key
        name = keys.owner_of(shown) if shown else None
        if name is None:
            how = "an unknown key" if shown else "none"
            message = f"wanted a key as Authorization: Bearer KEY or x-api-key: KEY, found {how}"
            raise Refusal(401, "invalid_api_key", message, fields=b"www-authenticate: Bearer\r\n")
        if bearer or not x.authorization:  # else the key stood beside another field, which alone proves nothing
            client.verified_by, client.verified = keys, sent
        x.who = client.who = name

    def _look_at_origin(self, x: Exchange) -> None:
        if x.origin in self._origins or b"*" in self._origins:
            x.cors = b"access-control-allow-origin: " + x.origin + b"\r\nvary: origin\r\n"
            if x.method == b"OPTIONS":
                raise Refusal(204, "", "", fields=_PREFLIGHT)
            x.cors += _EXPOSED
        elif self.keys is None or x.method == b"OPTIONS":
            message = f"the origin {show(x.origin)} is not in [gateway] cors_origins"
            raise _forbidden("foreign_origin", message)


def _forbidden(code: str, message: str) -> Refusal:
    return Refusal(403, code, message)


_OWN = frozenset((b"localhost", b"127.0.0.1", b"[::1]"))


def is_own_name(host: bytes) -> bool:
    """Whether this is a name that no foreign page can have: localhost, or a loopback address, with any port."""
    name, _, port = host.rpartition(b":") if not host.endswith(b"]") and b":" in host else (host, b"", b"")
    if port and not port.isdigit():
        return False
    if name.lower() in _OWN or name.lower().endswith(b".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip(b"[]").decode("ascii")).is_loopback
    except ValueError:
        return False
