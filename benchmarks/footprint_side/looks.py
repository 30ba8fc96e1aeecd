"""What one look at a server costs in processor time: `python looks.py SOCKET ours|plain COUNT` prints seconds a look.

`ours` is the daemon's own client: the filtered page, searched for the series that matter where it is not the same as
before; of the farm's busy server it never is. `plain` is what a monitor
does that knows no better: the whole page over aiohttp, read by prometheus_client's parser. Neither is paced: what a
timer and a turn cost is in the daemon's figure, not in this one.
"""

import sys
import time
from pathlib import Path

import aiohttp
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from sleepd.adapters.clock import SystemClock
from sleepd.adapters.processes import ProcessFinder
from sleepd.adapters.vllm_http import VllmServer
from sleepd.core.model import Known, ModelSpec


async def ours(path: str, count: int) -> float:
    server = VllmServer(ModelSpec("m0", f"unix:{path}"), SystemClock(), ProcessFinder(Path("/sys/fs/cgroup")))
    first = await server.look(ask_sleeping=True, timeout_s=10)
    assert isinstance(first, Known), first
    began_s = time.process_time()
    for _ in range(count):
        await server.look(ask_sleeping=False, timeout_s=5)
    took_s = time.process_time() - began_s
    await server.close()
    return took_s / count


async def plain(path: str, count: int) -> float:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        began_s = time.process_time()
        for _ in range(count):
            async with session.get("http://localhost/metrics") as response:
                page = (await response.read()).decode()
            assert sum(len(family.samples) for family in text_string_to_metric_families(page)) > 100
        return (time.process_time() - began_s) / count


if __name__ == "__main__":
    _path, _how, _count = sys.argv[1:]
    print(uvloop.run({"ours": ours, "plain": plain}[_how](_path, int(_count))))
