"""The gateway as part of the service: sockets of its own and passed ones, keys from files, nothing left at the end."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from sleepd.api.sockets import SocketTaken
from sleepd.config.listen import parse_listen
from sleepd.config.settings import GatewaySettings
from sleepd.core.model import ModelSpec
from sleepd.service.gateway import GatewayPart, access_of
from sleepd.service.ui import UiPart
from tests.gateway.rig import FakeDaemon
from tests.integration.wire import send


async def get_models(path: Path) -> int:
    return (await asyncio.to_thread(send, path, "GET", "/v1/models")).status


async def test_it_listens_where_it_is_told_and_leaves_nothing_behind(root: Path) -> None:
    part, path = GatewayPart(), root / "g.sock"
    written = GatewaySettings(listen=(parse_listen(f"unix:{path}"),), socket_mode=0o600)
    await part.start(FakeDaemon(), written, {}, {}, UiPart())
    assert path.stat().st_mode & 0o777 == 0o600
    assert await get_models(path) == 200
    await part.close()
    assert not path.exists()


async def test_passed_sockets_take_the_place_of_listen(root: Path) -> None:
    part, passed = GatewayPart(), root / "passed.sock"
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(passed))
    bound.listen()
    written = GatewaySettings(listen=(parse_listen(f"unix:{root}/other.sock"),))
    await part.start(FakeDaemon(), written, {"gateway": (bound,), "api": ()}, {}, UiPart())
    assert await get_models(passed) == 200
    await part.close()
    assert passed.exists()
    assert not (root / "other.sock").exists()


async def test_who_comes_to_a_passed_socket_at_the_end_waits_for_the_next_daemon(root: Path) -> None:
    """Who was let in is answered; who was not waits in the kernel, whose socket the service manager keeps."""
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(root / "passed.sock"))
    bound.listen()
    managers = bound.dup()
    part = GatewayPart()
    await part.start(FakeDaemon(), GatewaySettings(), {"gateway": (bound,)}, {}, UiPart())
    reader, writer = await asyncio.open_unix_connection(str(root / "passed.sock"))
    await asyncio.sleep(0.05)  # let in, and says nothing yet
    closing = asyncio.create_task(part.close())
    await asyncio.sleep(0.05)
    late, late_writer = await asyncio.open_unix_connection(str(root / "passed.sock"))
    late_writer.write(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
    writer.write(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 10.0)).startswith(b"HTTP/1.1 200")
    await closing
    next_part = GatewayPart()
    await next_part.start(FakeDaemon(), GatewaySettings(), {"gateway": (managers,)}, {}, UiPart())
    assert (await asyncio.wait_for(late.readline(), 10.0)).startswith(b"HTTP/1.1 200")
    await next_part.close()
    for each in (writer, late_writer):
        each.close()


async def test_a_passed_socket_that_others_reach_needs_keys(root: Path) -> None:
    keys = root / "keys"
    keys.write_text("me:a-long-secret\n")
    keys.chmod(0o600)
    with socket.create_server(("0.0.0.0", 0)) as bound, pytest.raises(SocketTaken, match="api_keys_file"):
        await GatewayPart().start(FakeDaemon(), GatewaySettings(), {"gateway": (bound,)}, {}, UiPart())
    part = GatewayPart()
    bound = socket.create_server(("0.0.0.0", 0))
    await part.start(FakeDaemon(), GatewaySettings(api_keys_file=str(keys)), {"gateway": (bound,)}, {}, UiPart())
    await part.close()


async def test_an_address_that_is_taken_is_told(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        written = GatewaySettings(listen=(parse_listen(f"127.0.0.1:{taken.getsockname()[1]}"),))
        with pytest.raises(SocketTaken, match=r"\[gateway\] listen"):
            await GatewayPart().start(FakeDaemon(), written, {}, {}, UiPart())


def test_a_servers_key_is_what_its_file_holds(root: Path) -> None:
    key = root / "key"
    key.write_text("s3cret\n")
    key.chmod(0o600)
    assert access_of(ModelSpec("m", "http://127.0.0.1:1", api_key_file=str(key))).credentials == (
        b"authorization: Bearer s3cret\r\n"
    )
    assert access_of(ModelSpec("m", "http://127.0.0.1:1", api_key_file=str(root / "none"))).credentials == b""
    assert access_of(ModelSpec("m", "https://127.0.0.1:1")).tls is not None


def test_where_authorities_cannot_be_read_nobody_is_trusted(root: Path) -> None:
    tls = access_of(ModelSpec("m", "https://127.0.0.1:1", ca_file=str(root / "none"))).tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert tls.cert_store_stats()["x509_ca"] == 0
