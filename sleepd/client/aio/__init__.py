"""The asynchronous client, on aiohttp: the same methods as `sleepd.client.Client`, to be awaited."""

from sleepd.client.aio.client import AsyncClient

__all__ = ["AsyncClient"]
