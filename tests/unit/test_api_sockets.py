"""The API's socket: made, passed, taken over, taken away."""

import asyncio
import socket
import stat
from pathlib import Path

import aiohttp
import pytest
from api_rig import OPEN_ROLES, FakeDaemon, serving

from sleepd.api.server import STOP_LIMIT_S, start_api
from sleepd.api.sockets import SocketTaken, bind_socket
from sleepd.service.listeners import check_names


async def test_closing_ends_streams_and_takes_the_socket_away(tmp_path: Path) -> None:
    daemon, path = FakeDaemon(), tmp_path / "deep" / "s"
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        async with serving(daemon, path, mode=0o660):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            response = await session.get("http://x/v1/events")
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < STOP_LIMIT_S, "streams are ended, not waited for"
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    assert not path.exists()


def test_a_stale_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    bind_socket(path, 0o600).close()
    with (
        bind_socket(path, 0o600),
        pytest.raises(SocketTaken, match="another process does, most likely a second sleepd"),
    ):
        bind_socket(path, 0o600)


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(SocketTaken, match="something that is no socket"):
        bind_socket(tmp_path / "s", 0o600)
    assert (tmp_path / "s").read_text() == "precious"
    with pytest.raises(SocketTaken, match="cannot listen on"):
        bind_socket(tmp_path / "s" / "below", 0o600)
    with pytest.raises(SocketTaken, match=r"set \[api\] socket"):
        bind_socket(tmp_path / ("x" * 150), 0o600)


def test_the_socket_is_never_open_to_more_than_its_mode(tmp_path: Path) -> None:
    with bind_socket(tmp_path / "s", 0o640) as bound:
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o640
        assert bound.family is socket.AF_UNIX


async def test_a_passed_socket_takes_the_place_of_the_path_and_stays(tmp_path: Path) -> None:
    passed = socket.socket(socket.AF_UNIX)
    passed.bind(str(tmp_path / "passed"))
    passed.listen()
    managers = passed.dup()  # the service manager keeps its own
    server = await start_api(
        FakeDaemon(), socket_path=tmp_path / "s", socket_mode=0o666, roles=OPEN_ROLES, passed=[passed]
    )
    assert not (tmp_path / "s").exists()
    connector = aiohttp.UnixConnector(str(tmp_path / "passed"))
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get("http://x/v1/status") as response:
            assert response.status == 200
        await server.leave_passed()
        async with session.get("http://x/v1/status") as response:  # who is in already is still answered
            assert response.status == 200
    with socket.socket(socket.AF_UNIX) as waits:
        waits.settimeout(5.0)
        waits.connect(str(tmp_path / "passed"))
        await server.close()
        managers.setblocking(True)
        next_daemons, _ = managers.accept()
        next_daemons.close()
    managers.close()
    assert (tmp_path / "passed").exists()


async def test_a_passed_socket_that_tells_no_peer_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed, pytest.raises(SocketTaken, match="wanted a unix socket"):
        await start_api(FakeDaemon(), socket_path=tmp_path / "s", socket_mode=0o666, roles=OPEN_ROLES, passed=[passed])


def test_sockets_passed_by_another_name_are_refused() -> None:
    check_names({"api": (), "gateway": ()})
    with pytest.raises(SocketTaken, match=r"passed a socket as 'sleepd\.socket'"):
        check_names({"api": (), "sleepd.socket": ()})
