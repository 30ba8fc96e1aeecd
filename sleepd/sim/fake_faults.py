"""The control socket of a simulated server: arming faults and looking inside. No part of vLLM.

GET    /fake/state    the snapshot: bytes held and pinned, blocks mapped, requests, armed faults
POST   /fake/fault    {"kind": "fail_wake", "blocks": 2, ...} arms one fault (vllm_faults.Fault)
DELETE /fake/fault    disarms all
POST   /fake/release  a call held by `hang` goes on
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from aiohttp import web

from sleepd.sim.vllm import SimEngine
from sleepd.sim.vllm_faults import parse_fault


def fault_app(engine: SimEngine) -> web.Application:
    """The application behind the control socket of `engine`."""

    async def state(request: web.Request) -> web.Response:
        return web.json_response(describe(engine))

    async def arm(request: web.Request) -> web.Response:
        try:
            data = json.loads(await request.read())
            if not isinstance(data, dict):
                raise ValueError(f"wanted a JSON object such as {{'kind': 'hang'}}, found {data!r}")
            fault = parse_fault(data)
        except ValueError as problem:
            return web.json_response({"error": str(problem)}, status=400)
        engine.arm(fault)
        return web.json_response(dataclasses.asdict(fault))

    async def disarm(request: web.Request) -> web.Response:
        engine.disarm()
        return web.json_response({})

    async def release(request: web.Request) -> web.Response:
        engine.release_hang()
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/fake/state", state)
    app.router.add_post("/fake/fault", arm)
    app.router.add_delete("/fake/fault", disarm)
    app.router.add_post("/fake/release", release)
    return app


def describe(engine: SimEngine) -> dict[str, Any]:
    """What `/fake/state` says: the snapshot's simple numbers, and what is armed."""
    now = engine.snapshot()
    return {
        "alive": now.alive,
        "is_paused": now.is_paused,
        "sleeping_tags": sorted(now.sleeping_tags),
        "held_bytes": now.held_bytes,
        "pinned_bytes": now.pinned_bytes,
        "mapped_blocks": {pool: list(counts) for pool, counts in now.mapped_blocks.items()},
        "answers_right": now.answers_right,
        "in_flight_requests": now.in_flight_requests,
        "asked_asleep": engine.asked_asleep,
        "armed": [dataclasses.asdict(fault) for fault in engine.armed()],
    }
