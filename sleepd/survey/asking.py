"""What a server tells whoever asks it: its release, its models, whether it can sleep. Nothing is changed at it.

Endpoints and releases: docs/vllm.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import aiohttp

from sleepd.adapters.connections import cause_of, is_refusal, read_body
from sleepd.adapters.credentials import GUARDED
from sleepd.adapters.threads import in_thread
from sleepd.adapters.vllm_answers import Refusal, incarnation_of, member, parse, read_sleeping
from sleepd.adapters.vllm_facts import checkpoint_bytes, facts_of
from sleepd.adapters.vllm_metrics import read_page
from sleepd.config.urls import UrlError, parse_url
from sleepd.core.model import MissingReason
from sleepd.core.seen import EngineFacts
from sleepd.core.units import Seconds
from sleepd.doctor.servers import ENGINE_HANGS
from sleepd.survey.processes import FoundProcess

TIMEOUT_S: Seconds = 5.0
VERSION_LIMIT = 100


@dataclass(frozen=True, slots=True)
class Told:
    """What one server told. `url` is where it was asked; `facts` None where it did not say that it is vLLM, and then
    `silent` says why; with facts, why it told no more. `locked`: whether it wants a key; `dev_mode`: whether it has
    sleep endpoints; `counts`: whether its metrics count requests: None where that was not found out."""

    url: str
    facts: EngineFacts | None = None
    silent: str = ""
    locked: bool | None = None
    dev_mode: bool | None = None
    counts: bool | None = None
    is_sleeping: bool | None = None


async def ask_server(found: FoundProcess, *, timeout_s: Seconds = TIMEOUT_S) -> Told:
    """Ask at its addresses, one after the other, until one answers as vLLM does.

    Waits `timeout_s` for each answer, at most. A key that stands in its arguments or environment is shown to it, and to
    nobody else.
    """
    environ = found.environ or {}
    key = found.arguments.value("--api-key") or environ.get("VLLM_API_KEY", "")
    refused: Told | None = None
    for url in found.urls:
        told = await _ask(url, key, timeout_s)
        if told.facts is None:
            refused = refused or told
        elif _is_another(found, told.facts):
            refused = refused or Told("", silent=f"what answers at {url} serves other models")
        else:
            return told
    where = (
        "in a network namespace of its own, which this host does not reach"
        if found.apart
        else "nowhere that can be seen"
    )
    return refused or Told("", silent=f"it listens {where}")


def _is_another(found: FoundProcess, facts: EngineFacts) -> bool:
    """Whether a port that leads into some container leads into another one: what answers there serves other models."""
    name = found.arguments.name
    return found.in_container and bool(name and facts.served_names) and name not in facts.served_names


async def _ask(url: str, key: str, timeout_s: Seconds) -> Told:
    told = Told(url)
    socket = url.removeprefix("unix:") if url.startswith("unix:") else ""
    connector = aiohttp.UnixConnector(path=socket) if socket else aiohttp.TCPConnector()
    base = "http://localhost" if socket else url
    try:
        limit = aiohttp.ClientTimeout(total=timeout_s)
        async with aiohttp.ClientSession(base, connector=connector, timeout=limit) as session:
            version = member(parse((await _get(session, "/version"))[1]), "version")
            if not isinstance(version, str) or len(version) > VERSION_LIMIT:
                return replace(told, silent="something answers there, but not as vLLM does (/version)")
            told = replace(told, facts=facts_of(version, None, None, None))
            return await _ask_more(session, told, version, key)
    except TimeoutError:
        return replace(told, silent=f"no answer within {timeout_s:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        nobody = "nobody listens there: " if is_refusal(error) else ""
        return replace(told, silent=nobody + cause_of(error))


async def _ask_more(session: aiohttp.ClientSession, told: Told, version: str, key: str) -> Told:
    """Everything else, of a server that said its release; what it does not answer is left out."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    status, models = await _get(session, "/v1/models", headers)
    metered, page = await _get(session, "/metrics")
    scrape = read_page(page)
    info = await _get_json(session, "/server_info?config_format=json")
    facts = facts_of(
        version,
        incarnation_of(scrape),
        parse(models) if status == 200 else None,
        info,
        await _get_json(session, "/openapi.json"),
    )
    facts = replace(facts, checkpoint_bytes=await in_thread("checkpoint", lambda: checkpoint_bytes(facts.model_path)))
    counts = scrape.running is not None if metered == 200 else None
    locked = True if key or status in (401, 403) else False if status == 200 else None
    told = replace(told, facts=facts, counts=counts, locked=locked)
    try:
        return replace(told, dev_mode=True, is_sleeping=read_sleeping(*await _get(session, "/is_sleeping")))
    except Refusal as refusal:
        missing = refusal.reason is MissingReason.NO_DEV_MODE
        return replace(told, dev_mode=False if missing else None, silent="" if missing else refusal.detail)
    except TimeoutError:
        return replace(told, silent=f"/is_sleeping does not answer: {ENGINE_HANGS}")


async def _get(session: aiohttp.ClientSession, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    async with session.get(
        path, headers=headers if path.startswith(GUARDED) else None, allow_redirects=False
    ) as answer:
        return answer.status, await read_body(answer)


async def _get_json(session: aiohttp.ClientSession, path: str) -> Any:
    status, body = await _get(session, path)
    return parse(body) if status == 200 else None


async def ask_all(found: Sequence[FoundProcess], *, timeout_s: Seconds = TIMEOUT_S) -> tuple[Told, ...]:
    """Ask every server, all at once; the same order. One address is one server: the first that was asked there; the
    others are asked at what is left of their addresses."""
    taken: set[str] = set()
    told = list(await asyncio.gather(*(ask_server(one, timeout_s=timeout_s) for one in found)))
    for number, one in enumerate(told):
        while one.url and _identity(one.url) in taken:
            left = tuple(url for url in found[number].urls if _identity(url) not in taken)
            silent = Told("", silent=f"{one.url} is the address of another server that runs here")
            again = await ask_server(replace(found[number], urls=left), timeout_s=timeout_s) if left else silent
            one = told[number] = again if again.facts is not None else silent
        taken.add(_identity(one.url))
    return tuple(told)


def _identity(url: str) -> str:
    """The same for two addresses of one server."""
    try:
        return parse_url(url).identity
    except UrlError:
        return url
