"""`sleepd run` whose gateway leaves nothing to the next run: it serves to its end whoever is there, and closes.

As nginx quits: no connection is taken any more, idle ones are closed at once, the others with the answer under way,
which says so. Requests that are held count as under way. What is not over in time is refused.
"""

import asyncio
import sys

from sleepd.cli.daemon import main
from sleepd.gateway.app import LOOK_S, Gateway
from sleepd.gateway.client import ClientConnection
from sleepd.gateway.handover import requests_on, write_state


async def drain(self: Gateway, limit_s: float, most: int) -> tuple[list[int], int, int]:
    """In the place of Gateway.hand_over: nothing is left to the next process."""
    front = self._front
    end_s = front.time() + limit_s
    self._close_doors()
    while front.connections and front.time() < end_s:
        for client in list(front.connections):
            _wind_up(client)
        await asyncio.sleep(LOOK_S)
    front.handing_over = True  # what is not over now is refused by `close`, as after a handover
    return [], write_state(()), 0


def _wind_up(client: ClientConnection) -> None:
    for x in requests_on(client):
        x.keep_alive = False
    if client.now is None and not client.is_midway and not client.deaf:
        client.close()


if __name__ == "__main__":
    Gateway.hand_over = drain  # type: ignore[method-assign]
    sys.exit(main())
