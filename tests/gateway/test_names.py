"""Which model a request is for: by name and rank, by the id of an answer, at whatever address it has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from sleepd.core.model import ModelSpec
from sleepd.core.seen import EngineFacts
from sleepd.gateway.errors import chunk
from tests.gateway.rig import CHAT, EVENTS, OK, Rig, answer, get, post


async def test_names_lead_to_models_in_their_order_of_rank(root: Path) -> None:
    facts = EngineFacts("0.32.0", (0, 32), None, served_names=("listed", "b"), lora_names=("sql-lora",))
    async with Rig(root) as rig:
        await rig.server("a", facts=facts, served_names=("alias",))
        await rig.server("b", served_names=("listed",))
        client = await rig.client()
        for name, model in (("a", "a"), ("alias", "a"), ("sql-lora", "a"), ("b", "b"), ("listed", "b")):
            client.send(post(json.dumps({"model": name}).encode()))
            assert b"x-sleepd-model: %b\r\n" % model.encode() in (await client.answer())[1]
        client.send(get(b"/v1/models"))
        entries = {entry["id"]: entry for entry in json.loads((await client.answer())[2])["data"]}
        assert {name: entry["sleepd"]["model"] for name, entry in entries.items()} == {
            **dict.fromkeys(("a", "alias", "sql-lora"), "a"),
            **dict.fromkeys(("b", "listed"), "b"),
        }
        assert (entries["sql-lora"]["parent"], entries["alias"]["parent"]) == ("a", None)
        client.send(get(b"/v1/models/alias") + get(b"/v1/models/nobody"))
        assert json.loads((await client.answer())[2]) == entries["alias"]
        assert (await client.answer())[0] == 404


async def test_responses_are_found_again_by_their_id(root: Path) -> None:
    first = b'{"id": "resp_abc", "object": "response"}'
    async with Rig(root) as rig:
        a = await rig.server("a", answer(OK.replace(b"2\r\n\r\n{}", b"%d\r\n\r\n%b" % (len(first), first))))
        events = b"".join(map(chunk, (b'data: {"response":', b'{"id":"resp_def"}}'))) + b"0\r\n\r\n"
        b = await rig.server("b", answer(EVENTS + events))
        client = await rig.client()
        client.send(post(b'{"input": "", "model": "a"}', b"/v1/responses"))
        await client.answer()
        client.send(post(b'{"input": "", "model": "b", "stream": true}', b"/v1/responses"))
        await client.head()
        await client.reader.readuntil(b"0\r\n\r\n")
        b.play = answer()
        client.send(get(b"/v1/responses/resp_abc?stream=true") + get(b"/v1/responses/resp_def"))
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
        cancel = b"POST /v1/responses/resp_def/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        client.send(cancel + post(b'{"input": "", "previous_response_id": "resp_abc"}', b"/v1/responses"))
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
        assert a.seen[1].head.startswith(b"GET /v1/responses/resp_abc?stream=true HTTP/1.1\r\n")
        assert b.seen[-1].head.startswith(b"POST /v1/responses/resp_def/cancel HTTP/1.1\r\n")
        assert len(a.seen) == 3
        client.send(get(b"/v1/responses/resp_nobody"))
        assert (await client.answer())[0] == 404


async def test_a_model_with_another_address_is_met_there(root: Path) -> None:
    async with Rig(root) as rig:
        await rig.server("m")
        other = await rig.server("other")
        client = await rig.client()
        client.send(post(CHAT))
        await client.answer()
        record = rig.daemon.world.models["m"]
        moved = replace(record, spec=ModelSpec("m", rig.daemon.world.models["other"].spec.url))
        models = {**rig.daemon.world.models, "m": moved}
        settings = replace(rig.daemon.world.settings, models={n: r.spec for n, r in models.items()})
        rig.daemon.world = replace(rig.daemon.world, models=models, settings=settings)
        client.send(post(CHAT))
        assert (await client.answer())[0] == 200
        assert len(other.seen) == 1
