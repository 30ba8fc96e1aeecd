"""One vLLM server over HTTP: looks on a kept-alive connection, control calls each on a fresh one.

A 500 closes vLLM's connection and idle ones are dropped after 5 s, so a control call on a pooled connection could be
lost before it was sent and nobody could tell. Level, mode and tags are query parameters: vLLM ignores bodies there.
Endpoints and releases: docs/vllm.md.
"""

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from sleepd.adapters.cgroup import CgroupMemory
from sleepd.adapters.connections import cause_of, is_refusal, read_body
from sleepd.adapters.credentials import Credentials
from sleepd.adapters.direct import DirectConnections
from sleepd.adapters.processes import Process, ProcessFinder
from sleepd.adapters.threads import in_thread
from sleepd.adapters.vllm_answers import (
    Refusal,
    incarnation_of,
    member,
    parse,
    read_control,
    read_sleeping,
    start_of,
)
from sleepd.adapters.vllm_facts import checkpoint_bytes, facts_of, with_models
from sleepd.adapters.vllm_metrics import SERIES, Scrape, read_page
from sleepd.core.calls import Answered, CallResult, NoAnswer, NoAnswerKind, ProbeResult, request_of
from sleepd.core.checksums import CHECKSUM_BODY, WEIGHT_CHECKER, read_checksums
from sleepd.core.model import Known, Missing, MissingReason, ModelSpec, Reading
from sleepd.core.plan import Verb
from sleepd.core.question import COMPLETIONS, question_body, read_answer
from sleepd.core.seen import EngineFacts, ModelSeen, UnitMemory
from sleepd.core.units import Seconds
from sleepd.ports import Clock

CONNECT_S = 5.0
FIRST_LOOK_S = 30.0
SCAN_S = 10.0
"""How long the checkpoint's size may take to find; on a hung mount it stays unknown."""
LIST_S = 10.0
"""How often the adapters of a server are listed where these come and go: a page of its API server, no engine's call."""
ENDED_LOOK_S = 1.0
"""How long a server whose process has ended may take: only another one, in its place, would answer at all."""


class VllmServer:
    """A server at one address. Incarnations may change behind it; facts are asked anew when they do."""

    def __init__(
        self,
        spec: ModelSpec,
        clock: Clock,
        processes: ProcessFinder,
        units: CgroupMemory | None = None,
        credentials: Credentials = Credentials(),  # noqa: B008 - frozen
    ) -> None:
        self._direct = DirectConnections()
        self._credentials = credentials
        self._spec, self._clock, self._processes, self._units = spec, clock, processes, units
        self._socket = spec.url.removeprefix("unix:") if spec.url.startswith("unix:") else ""
        self._page, self._scraped = b"", Scrape()
        self._base = URL("http://localhost" if self._socket else spec.url.rstrip("/"))
        # Written once: a look that built its query anew would spend a tenth of its time on it.
        self._filtered_url = self._base.with_path("/metrics/").with_query([("name[]", name) for name in SERIES])
        self._looking: aiohttp.ClientSession | None = None
        self._calling: aiohttp.ClientSession | None = None
        self._facts: EngineFacts | None = None
        self._pids: tuple[int, ...] = ()
        self._process: Process | None = None
        self._killed, self._listed_s = "", 0.0
        self._filtered = True
        self._scanning: asyncio.Future[int | None] | None = None

    def show(self, credentials: Credentials) -> None:
        """Every request from now on is made with these; what is under way goes on with the old ones."""
        self._credentials = credentials

    async def look(
        self,
        *,
        ask_sleeping: bool,
        timeout_s: Seconds,
        fence: bool = False,
        ask_connections: bool = False,
        counters: bool = True,
        adapters: bool = False,
    ) -> Reading[ModelSeen]:
        """Return counters, gauges and facts; with `ask_sleeping` also /is_sleeping, with `ask_connections` also who
        is connected beside this process; without `counters` only /is_sleeping, of a server whose facts are known. With
        `adapters` those are listed anew that may come and go; so they are every LIST_S seconds. Waits `timeout_s` at
        most.

        With `fence` the counters are read after /is_sleeping answered: it blocks behind the call that runs (vLLM
        v1/engine/core.py, run_busy_loop takes utility calls in turn), the metrics page does not and may miss that call.
        A first look at an incarnation always asks /is_sleeping and takes longer: /server_info needs seconds once.
        An API server that was killed leaves its listening socket to EngineCore, which is forked after it was bound
        (vllm 0.32.0, entrypoints/launchers/launcher.py, setup_server): connections are taken and never answered.
        """
        asked_s = self._clock.now().mono_s
        ended = self._ended()
        limit_s = min(timeout_s, ENDED_LOOK_S) if ended else timeout_s
        try:
            async with asyncio.timeout(limit_s) as limit:
                if not counters and self._facts is not None:
                    brief = ModelSeen(self._facts, is_sleeping=await self._ask_sleeping(), pids=self._pids)
                    return Known(brief, asked_s, self._clock.now().mono_s)
                known = await self._look(ask_sleeping, fence, adapters, asked_s, limit)
                if not ask_connections:
                    return known
                direct = await self._direct.look(self._spec.url)
                return replace(known, value=replace(known.value, direct=direct))
        except TimeoutError:
            if ended and self._process is not None:
                detail = f"its process {self._process.pid} has ended, and what still holds its socket answers nothing"
                return Missing(MissingReason.REFUSED, detail, asked_s, await self._tell_killed())
            return Missing(MissingReason.TIMED_OUT, f"no answer within {limit_s:g} s", asked_s)
        except Refusal as refusal:
            return Missing(refusal.reason, refusal.detail, asked_s)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if not is_refusal(error):
                return Missing(MissingReason.UNREACHABLE, cause_of(error), asked_s)
            killed = await self._tell_killed()
            self._facts, self._filtered = None, True  # whoever listens here next was started anew
            return Missing(MissingReason.REFUSED, cause_of(error), asked_s, killed)

    async def _look(
        self, ask_sleeping: bool, fence: bool, adapters: bool, asked_s: float, limit: asyncio.Timeout
    ) -> Known[ModelSeen]:
        # Both at once: what a wake waits for is the slower of the two, not their sum. A fence is their sum.
        asking = asyncio.ensure_future(self._ask_sleeping()) if ask_sleeping and self._facts else None
        try:
            if fence and asking:
                await asking
            scrape = await self._scrape()
            incarnation, facts = incarnation_of(scrape), self._facts
            if incarnation is None and facts is not None and facts.incarnation is not None and not self._ended():
                raise Refusal(MissingReason.UNREADABLE, "a metrics page without process_start_time_seconds")
            if facts is None or facts.incarnation != incarnation:
                limit.reschedule(asyncio.get_running_loop().time() + FIRST_LOOK_S)
                facts = await self._discover(incarnation)
                self._pids = await self._processes.find(self._spec)
                self._process = await self._processes.find_started(self._pids, scrape.process_start_s or 0.0)
                is_sleeping: bool | None = await self._ask_sleeping()
                scrape = await self._scrape_again(incarnation) if fence else scrape
            else:
                is_sleeping = await asking if asking else None
        finally:
            if asking:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        first = facts is not self._facts
        if first:
            self._killed, self._listed_s = "", asked_s
        elif facts.loads_adapters and (adapters or (not ask_sleeping and asked_s - self._listed_s >= LIST_S)):
            facts, self._listed_s = await self._relist(facts), asked_s
        self._facts = facts
        seen = ModelSeen(
            facts=facts,
            is_sleeping=is_sleeping,
            running=scrape.running,
            waiting=scrape.waiting,
            activity=scrape.activity,
            control=scrape.control,
            gauge=scrape.gauge,
            pids=self._pids,
            # Not in the look that a wake waits for.
            unit_memory=await self._read_unit() if first or fence or not ask_sleeping else None,
        )
        return Known(seen, asked_s, self._clock.now().mono_s)

    async def _read_unit(self) -> UnitMemory | None:
        # Handing work to a thread costs more than all else of a look: not where there is nothing to read.
        if self._units is None or not self._units.is_there or not (self._spec.unit or self._spec.cgroup or self._pids):
            return None
        return await self._units.look(self._spec, self._pids)

    async def _tell_killed(self) -> str:
        """What the kernel's OOM killer did to the process that is gone: found out once, told until another answers."""
        if self._facts is not None and self._units is not None and self._units.is_there:
            self._killed = await self._units.killed(self._spec)
        return self._killed

    def _ended(self) -> bool:
        return self._process is not None and not self._process.is_running()

    async def _scrape(self) -> Scrape:
        """The filtered page where the server has one (71 µs of its CPU instead of 4 ms), else the full one."""
        if self._filtered:
            status, body = await self._get_url(self._filtered_url)
            scrape = self._read(body) if status == 200 else Scrape()
            if scrape.process_start_s is not None:
                return scrape
            self._filtered = False
        status, body = await self._get("/metrics")
        if status != 200:
            raise Refusal(MissingReason.NOT_VLLM, self._other("a metrics page at /metrics", f"status {status}"))
        return read_page(body)

    def _read(self, page: bytes) -> Scrape:
        """What the filtered page says. A server that nobody uses writes the same one again: it is not read twice."""
        if page != self._page:
            self._page, self._scraped = page, read_page(page)
        return self._scraped

    async def _scrape_again(self, incarnation: str | None) -> Scrape:
        """The counters once more, of the process that was asked in between and of no other."""
        scrape = await self._scrape()
        if incarnation_of(scrape) != incarnation:
            raise Refusal(MissingReason.UNREADABLE, "the server was replaced while it was looked at")
        return scrape

    async def _discover(self, incarnation: str | None) -> EngineFacts:
        if self._facts is not None:
            # Another process than before: it may be a release that filters.
            self._filtered = True
        version = member(await self._get_json("/version"), "version")
        if not isinstance(version, str):
            raise Refusal(MissingReason.NOT_VLLM, self._other("vLLM's /version", "something else"))
        models = await self._list_models()
        info = await self._get_json("/server_info", [("config_format", "json")])
        listed = await self._get_json("/openapi.json")
        facts = facts_of(version, incarnation, models, info, listed)
        return replace(facts, checkpoint_bytes=await self._measure(facts.model_path))

    async def _list_models(self) -> Any:
        """The cards of /v1/models, the first page that a key guards; None where there is no such page."""
        status, body = await self._get("/v1/models")
        if status == 401:
            detail = f"wanted /v1/models, found status 401: {self._credentials.refused(self._spec.name)}"
            raise Refusal(MissingReason.UNAUTHORIZED, detail)
        return parse(body) if status == 200 else None

    async def _relist(self, facts: EngineFacts) -> EngineFacts:
        """The facts with the adapters that are listed now; as they were where nothing is listed."""
        try:
            models = await self._list_models()
        except Refusal:
            return facts
        return facts if models is None else with_models(facts, models)

    async def _measure(self, model_path: str) -> int | None:
        """The checkpoint's bytes, or None where the disk does not tell in time or still owes an earlier answer."""
        if self._scanning is not None and not self._scanning.done():
            return None
        self._scanning = in_thread("checkpoint", partial(checkpoint_bytes, model_path))
        try:
            async with asyncio.timeout(SCAN_S):
                return await asyncio.shield(self._scanning)
        except TimeoutError:
            return None

    def _other(self, wanted: str, found: str) -> str:
        return f"wanted {wanted} of {self._spec.url}, found {found}; check url in [models.{self._spec.name}]"

    async def _ask_sleeping(self) -> bool:
        return read_sleeping(*await self._get("/is_sleeping"))

    async def call(self, verb: Verb, *, timeout_s: Seconds, mode_parameter: bool) -> CallResult:
        """Send the one control call of this verb on a fresh connection, never twice. Waits `timeout_s` at most."""
        request = request_of(verb, mode_parameter=mode_parameter)
        result = await self._post(request.path, request.query, request.body, timeout_s)
        if isinstance(result, NoAnswer):
            return result
        return read_control(verb, *result)

    async def complete(
        self, prompt: str, *, api_name: str, timeout_s: Seconds, asks_at: str = COMPLETIONS
    ) -> ProbeResult:
        """Return the greedy continuation as at most 8 token texts, cut where the runner-up came close; of a pooling
        route, the vector."""
        result = await self._post(asks_at, (), question_body(asks_at, api_name, prompt), timeout_s)
        if isinstance(result, NoAnswer):
            return result
        status, raw = result
        if status == 401:
            return Answered(status, self._credentials.refused(self._spec.name))
        return read_answer(asks_at, parse(raw)) if status == 200 else Answered(status, start_of(raw))

    async def checksums(self, *, timeout_s: Seconds) -> str:
        """Return one digest over the checksums of all weights; empty where the server told none in time."""
        result = await self._post(WEIGHT_CHECKER, (), CHECKSUM_BODY, timeout_s)
        return "" if isinstance(result, NoAnswer) or result[0] != 200 else read_checksums(parse(result[1]))

    async def close(self) -> None:
        for session in (self._looking, self._calling):
            if session is not None:
                await session.close()
        self._looking = self._calling = None

    # the wire

    async def _post(
        self, path: str, query: tuple[tuple[str, str], ...], body: dict[str, Any] | None, timeout_s: Seconds
    ) -> tuple[int, bytes] | NoAnswer:
        if self._calling is None:
            self._calling = aiohttp.ClientSession(connector=self._connector(fresh=True))
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(CONNECT_S, timeout_s))
        url = self._base / path[1:]
        try:
            async with self._calling.post(
                url, params=query, json=body, allow_redirects=False, timeout=timeout, **self._shown(path)
            ) as response:
                return response.status, await read_body(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, FileNotFoundError) as error:
            return NoAnswer(NoAnswerKind.REFUSED, cause_of(error))
        except TimeoutError:
            return NoAnswer(NoAnswerKind.TIMED_OUT, f"no answer within {timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return NoAnswer(NoAnswerKind.BROKEN_OFF, cause_of(error))

    async def _get(self, path: str, query: list[tuple[str, str]] | None = None) -> tuple[int, bytes]:
        return await self._get_url(self._base.with_path(path).with_query(query))

    async def _get_url(self, url: URL) -> tuple[int, bytes]:
        if self._looking is None:
            # Below vLLM's 5 s keep-alive, so that a poll never meets a connection the server is just closing.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
            self._looking = aiohttp.ClientSession(connector=self._connector(fresh=False), timeout=timeout)
        async with self._looking.get(url, allow_redirects=False, **self._shown(url.path)) as response:
            return response.status, await read_body(response)

    def _shown(self, path: str) -> dict[str, Any]:
        """What a request carries of the credentials: redirects are not followed, so nobody else ever gets it."""
        tls = {"ssl": self._credentials.tls} if self._credentials.tls is not None else {}
        return {"headers": self._credentials.headers(path), **tls}

    async def _get_json(self, path: str, query: list[tuple[str, str]] | None = None) -> Any:
        """The parsed answer; None where the server has no such page or says no JSON."""
        status, body = await self._get(path, query)
        return parse(body) if status == 200 else None

    def _connector(self, *, fresh: bool) -> aiohttp.BaseConnector:
        keep: dict[str, Any] = {"force_close": True} if fresh else {"keepalive_timeout": 4.0}
        if self._socket:
            return aiohttp.UnixConnector(path=str(Path(self._socket)), **keep)
        return aiohttp.TCPConnector(limit=8, **keep)
