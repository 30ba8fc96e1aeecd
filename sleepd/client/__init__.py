"""The Python client of the socket API: synchronous, on the standard library alone; the one on aiohttp is `.aio`."""

from sleepd.client.answers import ApiProblem, DaemonUnreachable, Reply
from sleepd.client.asks import DEFAULT_SOCKET
from sleepd.client.sync import Client

__all__ = ["DEFAULT_SOCKET", "ApiProblem", "Client", "DaemonUnreachable", "Reply"]
