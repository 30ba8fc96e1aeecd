"""Who may come in: by key, or on an open listener only from this host and from no foreign web page."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from sleepd.gateway.app import Gateway, ListenRefused
from sleepd.gateway.door import is_own_name
from sleepd.gateway.lane import Access
from sleepd.gateway.settings import GatewaySettings
from tests.gateway.rig import CHAT, FakeDaemon, Rig, get, post

KEYS = GatewaySettings(keys={"alice-secret-1": "alice", "bob-secret-22": "bob"})
MESSAGES = b"/v1/messages"


async def test_a_key_opens_the_door_and_goes_no_further(root: Path) -> None:
    async with Rig(root, KEYS, m=b"upstream-key") as rig:
        server = await rig.server("m")
        await rig.server("open")
        client = await rig.client()
        for fields in (
            b"Authorization: Bearer alice-secret-1\r\n",
            b"authorization: bearer bob-secret-22\r\n",
            b"X-Api-Key: alice-secret-1\r\n",
        ):
            client.send(post(CHAT, fields=fields) + post(CHAT.replace(b'"m"', b'"open"'), fields=fields))
            assert (await client.answer())[0] == 200
            assert (await client.answer())[0] == 200
        assert {seen.fields[b"authorization"] for seen in server.seen} == {b"Bearer upstream-key"}
        assert not any(b"secret" in seen.head for s in rig.servers.values() for seen in s.seen)
        assert not any(b"authorization" in seen.fields for seen in rig.servers["open"].seen)


@pytest.mark.parametrize(
    "fields",
    [b"", b"Authorization: Bearer wrong\r\n", b"Authorization: Basic alice-secret-1\r\n", b"X-Api-Key: \xff\r\n"],
)
async def test_without_one_nothing_is_answered(root: Path, fields: bytes) -> None:
    async with Rig(root, KEYS) as rig:
        server = await rig.server("m")
        client = await rig.client()
        for request in (post(CHAT, fields=fields), get(b"/v1/models", fields), post(CHAT, MESSAGES, fields)):
            client.send(request)
            status, head, body = await client.answer()
            assert status == 401
            assert b"www-authenticate: Bearer" in head
        assert json.loads(body)["error"]["type"] == "authentication_error"
        assert not server.raw


async def test_a_key_counts_for_its_own_request_only(root: Path) -> None:
    async with Rig(root, KEYS) as rig:
        await rig.server("m")
        client = await rig.client()
        client.send(post(CHAT, fields=b"X-Api-Key: alice-secret-1\r\n") + post(CHAT))
        assert [(await client.answer())[0] for _ in range(2)] == [200, 401]


async def test_what_stood_beside_a_key_is_no_key(root: Path) -> None:
    beside = b"Authorization: Basic eA==\r\n"
    async with Rig(root, KEYS) as rig:
        await rig.server("m")
        client = await rig.client()
        client.send(post(CHAT, fields=beside + b"X-Api-Key: alice-secret-1\r\n") + post(CHAT, fields=beside))
        assert [(await client.answer())[0] for _ in range(2)] == [200, 401]


async def test_new_keys_take_the_place_of_the_old_ones_at_once(root: Path) -> None:
    async with Rig(root, KEYS) as rig:
        await rig.server("m")
        client = await rig.client()
        old, new = b"X-Api-Key: alice-secret-1\r\n", b"X-Api-Key: carol-secret-3\r\n"
        client.send(post(CHAT, fields=old))
        assert (await client.answer())[0] == 200
        rig.gateway.take(GatewaySettings(keys={"carol-secret-3": "carol"}))
        client.send(post(CHAT, fields=old) + post(CHAT, fields=new))
        assert [(await client.answer())[0] for _ in range(2)] == [401, 200]


async def test_an_open_gateway_sends_a_clients_own_key_on_unless_the_model_has_one(root: Path) -> None:
    async with Rig(root, m=b"upstream-key") as rig:
        await rig.server("m")
        await rig.server("open")
        client = await rig.client()
        mine = b"Authorization: Bearer mine\r\nX-Api-Key: mine-too\r\n"
        client.send(post(CHAT, fields=mine) + post(CHAT.replace(b'"m"', b'"open"'), fields=mine))
        for _ in range(2):
            assert (await client.answer())[0] == 200
        assert b"mine" not in rig.servers["m"].seen[0].head
        seen = rig.servers["open"].seen[0].fields
        assert (seen[b"authorization"], seen[b"x-api-key"]) == (b"Bearer mine", b"mine-too")


@pytest.mark.parametrize("host", [b"evil.example", b"127.0.0.1.evil.example", b"10.0.0.1", b"localhost:x", b"[::2]"])
async def test_a_rebound_name_is_refused_on_an_open_tcp_listener(root: Path, host: bytes) -> None:
    async with Rig(root) as rig:
        server = await rig.server("m")
        client = await rig.client(tcp=True)
        client.send(post(CHAT).replace(b"Host: localhost", b"Host: " + host))
        assert (await client.answer())[0] == 403
        assert not server.raw


async def test_own_names_are_let_in(root: Path) -> None:
    assert all(map(is_own_name, (b"LOCALHOST", b"localhost:80", b"127.8.9.1:1", b"[::1]:8800", b"a.localhost")))
    async with Rig(root) as rig:
        await rig.server("m")
        client = await rig.client(tcp=True)
        for host in (b"localhost:8800", b"127.0.0.1", b"[::1]:80"):
            client.send(post(CHAT).replace(b"Host: localhost", b"Host: " + host))
            assert (await client.answer())[0] == 200


async def test_a_foreign_origin_is_refused_on_an_open_listener(root: Path) -> None:
    async with Rig(root, GatewaySettings(cors_origins=("https://chat.example",))) as rig:
        server = await rig.server("m")
        client = await rig.client()
        for origin in (b"https://evil.example", b"null", b"https://chat.example.evil"):
            client.send(post(CHAT, fields=b"Origin: " + origin + b"\r\n"))
            assert (await client.answer())[0] == 403
        assert not server.raw
        client.send(post(CHAT, fields=b"Origin: https://chat.example\r\n"))
        status, head, _ = await client.answer()
        assert (status, b"access-control-allow-origin: https://chat.example\r\n" in head) == (200, True)
        assert b"origin" not in server.seen[0].fields
        preflight = b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: https://chat.example\r\n"
        client.send(preflight + b"Access-Control-Request-Method: POST\r\n\r\n")
        head = await client.head()
        assert head.startswith(b"HTTP/1.1 204 ")
        assert head.count(b"access-control-allow-origin: https://chat.example\r\n") == 1


@pytest.mark.parametrize("site", [b"cross-site", b"same-site"])
async def test_a_picture_of_a_foreign_page_wakes_nobody(root: Path, site: bytes) -> None:
    """Browsers send no Origin with it, but say whose page it is on."""
    async with Rig(root) as rig:
        await rig.server("m")
        client = await rig.client(tcp=True)
        client.send(get(b"/gate/m", b"Sec-Fetch-Site: " + site + b"\r\n"))
        assert (await client.answer())[0] == 403
        assert not rig.daemon.holds
        client.send(get(b"/gate/m", b"Sec-Fetch-Site: none\r\n"))
        assert (await client.head()).startswith(b"HTTP/1.1 204 ")


async def test_without_keys_only_this_host_is_listened_to(tmp_path: Path) -> None:
    """By the socket's real address: a passed one may be bound to anything."""
    with socket.socket() as everywhere:
        everywhere.bind(("0.0.0.0", 0))
        gateway = Gateway(FakeDaemon(), GatewaySettings(), lambda spec: Access())
        with pytest.raises(ListenRefused, match="api_keys_file"):
            await gateway.start([everywhere])
        guarded = Gateway(FakeDaemon(), KEYS, lambda spec: Access())
        await guarded.start([everywhere])
        await guarded.close()
        await asyncio.sleep(0)


async def test_keys_are_not_dropped_while_others_reach_the_gateway(root: Path) -> None:
    """Addresses are taken at the start only: a reload that drops the keys would open the gateway to all."""
    with socket.socket() as exposed:
        exposed.bind(("0.0.0.0", 0))
        gateway = Gateway(FakeDaemon(), KEYS, lambda spec: Access())
        await gateway.start([exposed])
        try:
            with pytest.raises(ListenRefused, match="without api_keys_file"):
                gateway.take(GatewaySettings())
            gateway.take(GatewaySettings(keys={"carol-secret-3": "carol"}))
        finally:
            await gateway.close()
            await asyncio.sleep(0)
