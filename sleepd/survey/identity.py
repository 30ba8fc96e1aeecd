"""Which server is which: at one address or not, and which model of the daemon's.

A server is known by where it listens. Its unit only adds to that: several servers may run in one unit, a container that
a unit runs is seen in a cgroup of its own, and one that still loads listens nowhere.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import psutil

from sleepd.config.urls import UrlError, parse_url
from sleepd.core.units import Seconds
from sleepd.survey.asking import Told
from sleepd.survey.processes import FoundProcess

Place: TypeAlias = tuple[str, int]
"""An IP address and a port, or a socket's path and 0."""
LOOPBACK = "127.0.0.1"
RESOLVE_S: Seconds = 5.0


@dataclass(frozen=True, slots=True)
class ModelTold:
    """A model as the daemon tells it. `unit` is empty where it has none; `gpus` are UUIDs."""

    name: str
    url: str
    unit: str
    gpus: tuple[str, ...] = ()


def read_model(body: Any) -> ModelTold:
    """Return the model of one entry of `models` in the answer to GET /v1/status. Raises KeyError, TypeError and
    ValueError of anything else."""
    name, url, unit = body["name"], body["url"], body["unit"] or ""
    if not all(isinstance(text, str) for text in (name, url, unit)):
        raise TypeError("name, url and unit are no texts")
    return ModelTold(name, parse_url(url).text, unit, tuple(str(gpu["uuid"]) for gpu in body["gpus"]))


@dataclass(frozen=True, slots=True)
class Places:
    """Where models are configured, by their URL, and this host's own IP addresses."""

    of: Mapping[str, frozenset[Place]]
    ours: frozenset[str]

    def are_at(self, model: ModelTold, url: str, process: FoundProcess) -> bool:
        """Whether the model is configured at this address of the process."""
        place = place_of(url)
        if place is None:
            return False
        # What listens at every address is written down as listening at loopback's.
        everywhere = place[0] == LOOPBACK and process.open_ports.get(place[1], True)
        return any(
            one == place or (everywhere and one[1] == place[1] and self.is_ours(one[0])) for one in self.of[model.url]
        )

    def is_ours(self, host: str) -> bool:
        return host in self.ours or (not host.startswith("/") and ip_address(host).is_loopback)


def place_of(url: str) -> Place | None:
    """Where it is; None of no address, and of a name that others resolve."""
    try:
        text = parse_url(url).text
    except UrlError:
        return None
    if text.startswith("unix:"):
        return os.path.realpath(text.removeprefix("unix:")), 0
    parts = urlsplit(text)
    host = parts.hostname or ""
    try:
        address = ip_address(LOOPBACK if host == "localhost" else host)
    except ValueError:
        return None
    return LOOPBACK if address.is_unspecified or host == "::1" else str(address), parts.port or 0


async def find_places(models: Sequence[ModelTold]) -> Places:
    """Look up where models are. Waits `RESOLVE_S` for the names of hosts, at most; one that is not found is nowhere."""
    found = await asyncio.gather(*(_resolve(model.url) for model in models))
    interfaces = await asyncio.to_thread(psutil.net_if_addrs)
    ours = {address.address.partition("%")[0] for of in interfaces.values() for address in of}
    return Places({model.url: places for model, places in zip(models, found, strict=True)}, frozenset(ours))


async def _resolve(url: str) -> frozenset[Place]:
    if (place := place_of(url)) is not None:
        return frozenset({place})
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(RESOLVE_S):
            told = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return frozenset()
    return frozenset((str(address[0]).partition("%")[0], int(address[1])) for *_, address in told)


def match_models(
    models: Sequence[ModelTold], servers: Sequence[tuple[FoundProcess, Told]], places: Places
) -> tuple[ModelTold | None, ...]:
    """Return each server's model, None where it is none of them. One model is one server: the one that answers at its
    address, else the one that was told to or is seen to listen there, else the only one of its unit, while it answers
    nowhere."""

    def answers_there(model: ModelTold, process: FoundProcess, told: Told) -> bool:
        return told.facts is not None and places.are_at(model, told.url, process)

    def listens_there(model: ModelTold, process: FoundProcess, told: Told) -> bool:
        return told.facts is None and any(places.are_at(model, url, process) for url in process.urls)

    def is_its_unit(model: ModelTold, process: FoundProcess, told: Told) -> bool:
        together = sum(other.unit == process.unit for other, _ in servers)
        return model.unit == process.unit != "" and together == 1 and told.facts is None

    ways: tuple[Callable[[ModelTold, FoundProcess, Told], bool], ...] = (answers_there, listens_there, is_its_unit)
    found: dict[int, ModelTold] = {}
    for is_it in ways:
        for number, (process, told) in enumerate(servers):
            left = (model for model in models if model not in found.values() and is_it(model, process, told))
            if number not in found and (model := next(left, None)) is not None:
                found[number] = model
    return tuple(found.get(number) for number in range(len(servers)))


def _share_a_port(one: FoundProcess, other: FoundProcess) -> bool:
    """Whether both were told to listen at one port of this host (SO_REUSEPORT lets them)."""
    if one is other or any(_is_elsewhere(process) or not process.urls for process in (one, other)):
        return False
    return place_of(one.urls[0]) == place_of(other.urls[0]) and not one.urls[0].startswith("unix:")


def _is_elsewhere(process: FoundProcess) -> bool:
    """Whether its ports are others than this host's; a container's are taken to be until it is seen whose they are."""
    return bool(process.apart) or _hides_network(process)


def _hides_network(process: FoundProcess) -> bool:
    return process.in_container and process.apart is None


def others_at_its_port(one: FoundProcess, servers: Sequence[FoundProcess], *, hides: bool) -> Sequence[str] | None:
    """Return the other servers that were told to listen at its port; None where not all can be seen. `hides`: the
    kernel shows some processes only."""
    if hides or _hides_network(one):
        return None
    return [f"pid {other.pid}" for other in servers if _share_a_port(one, other)]
