"""Sends one signed message of a webhook, as Standard Webhooks has it (standardwebhooks.com, specification 1.0.0).

Redirects are not followed: whoever answers one would get what was meant for another. Proxies of the environment are not
used. Names are resolved in threads of their own, so that a resolver that hangs keeps nothing from ending.
"""

import asyncio
import base64
import hashlib
import hmac
import socket
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from sleepd import __version__
from sleepd.adapters.threads import in_thread
from sleepd.core.units import Seconds, WallS


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of a message: `status` None where there was no answer, and `detail` says why."""

    status: int | None
    detail: str = ""
    retry_after_s: Seconds | None = None


class WebhookSender:
    """One for all webhooks; connections are kept a while."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, url: str, secret: bytes, message_id: str, body: bytes, wall_s: WallS, timeout_s: Seconds
    ) -> Sent:
        """Return what the receiver said to one POST, `timeout_s` later at most. Raises nothing for what others do."""
        if self._session is None:
            connector = aiohttp.TCPConnector(resolver=_Resolver(), limit_per_host=2)
            self._session = aiohttp.ClientSession(connector=connector, trust_env=False, auto_decompress=False)
        timestamp = str(int(wall_s))
        headers = {
            "content-type": "application/json",
            "user-agent": f"sleepd/{__version__}",
            "webhook-id": message_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": sign(secret, message_id, timestamp, body),
        }
        limit = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._session.post(
                url, data=body, headers=headers, timeout=limit, allow_redirects=False
            ) as answer:
                return Sent(answer.status, retry_after_s=_seconds(answer.headers.get("retry-after"), wall_s))
        except TimeoutError:
            return Sent(None, f"no answer within {timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Sent(None, f"{type(error).__name__}: {_without_address(error)}"[:200])

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def sign(secret: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature field: "v1," and the HMAC-SHA256 of id, timestamp and body in base64."""
    signed = hmac.digest(secret, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


def _without_address(error: Exception) -> str:
    """What went wrong, without the whole URL that aiohttp adds: its path and query are the key to many receivers, and
    everybody may read events."""
    if isinstance(error, aiohttp.ClientResponseError):
        return error.message
    if isinstance(error, aiohttp.InvalidURL):
        return error.description or "the address is none"
    return str(error)


def _seconds(written: str | None, wall_s: WallS) -> Seconds | None:
    """What Retry-After asks for (RFC 9110, 10.2.3): seconds, or a moment."""
    if written is None:
        return None
    if written.isascii() and written.isdigit():
        return float(written[:9])
    try:
        return max(0.0, parsedate_to_datetime(written).timestamp() - wall_s)
    except (ValueError, OverflowError):
        return None


class _Resolver(AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        def look_up() -> list[Any]:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)

        found = await asyncio.shield(in_thread("resolver", look_up))
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=af,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for af, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Nothing is open."""
