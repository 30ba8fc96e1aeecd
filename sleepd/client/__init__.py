"""The Python client of the socket API: synchronous here, on the standard library alone; `sleepd.client.aio` on aiohttp."""

from sleepd.client.answers import ApiProblem, DaemonUnreachable, Reply
from sleepd.client.asks import DEFAULT_SOCKET
from sleepd.client.sync import Client

__all__ = ["DEFAULT_SOCKET", "ApiProblem", "Client", "DaemonUnreachable", "Reply"]
