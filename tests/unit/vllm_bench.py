"""A raw server whose pages a test may change, and the adapter that talks to it."""

from pathlib import Path
from typing import Any

from sleepd.adapters.clock import SystemClock
from sleepd.adapters.processes import ProcessFinder
from sleepd.adapters.vllm_http import VllmServer
from sleepd.core.calls import Answered, NoAnswer
from sleepd.core.model import ModelSpec
from sleepd.core.plan import Verb
from tests.adapters.raw_server import Answer, Asked, RawServer, reply

METRICS = (
    b"process_start_time_seconds 12.5\nvllm:num_requests_running 1\nvllm:num_requests_waiting 2\n"
    b'http_requests_total{handler="/sleep",status="2xx"} 3\n'
)
PAGES: dict[str, Any] = {
    "/metrics/": METRICS,
    "/metrics": METRICS,
    "/version": {"version": "0.32.0"},
    "/v1/models": {"data": [{"id": "tiny-a"}]},
    "/server_info": {"vllm_config": {"model_config": {"enable_sleep_mode": True}, "parallel_config": {"x": 1}}},
    "/is_sleeping": {"is_sleeping": False},
}


class Bench:
    def __init__(self, path: Path) -> None:
        self.pages: dict[str, Any] = dict(PAGES)
        self.path = path
        self.vllm = VllmServer(ModelSpec("a", f"unix:{path}"), SystemClock(), ProcessFinder(path.parent))
        self.raw: RawServer

    def answer(self, asked: Asked) -> Answer:
        if asked.path not in self.pages:
            return reply({"detail": "Not Found"}, 404)
        page = self.pages[asked.path]
        if page is None or (isinstance(page, bytes) and page.startswith((b"HTTP/", b"garbage"))):
            return page
        return reply(page)

    async def call(self, verb: Verb, timeout_s: float = 2.0, *, mode: bool = True) -> Answered | NoAnswer:
        return await self.vllm.call(verb, timeout_s=timeout_s, mode_parameter=mode)

    async def look(self, timeout_s: float = 2.0, *, ask_sleeping: bool = False) -> Any:
        return await self.vllm.look(ask_sleeping=ask_sleeping, timeout_s=timeout_s)

    def paths(self) -> list[str]:
        return [asked.path for asked in self.raw.asked]
