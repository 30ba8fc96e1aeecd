"""Which server is which model of the daemon's: by address, by unit, on this host and on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sleepd.cli.doctor import judge_servers, keeps_encoder
from sleepd.core.seen import EngineFacts
from sleepd.doctor.findings import Finding
from sleepd.survey.arguments import ServerArguments
from sleepd.survey.asking import Told
from sleepd.survey.identity import ModelTold, Places, find_places, match_models, others_at_its_port
from sleepd.survey.processes import FoundProcess

HERE = "http://127.0.0.1:8000"
FACTS = EngineFacts("0.32.0", (0, 32, 0), "pst:1")
OURS = "192.0.2.5"
CONTAINER = f"system.slice/docker-{'a1' * 32}.scope"


def server(url: str, unit: str = "", *, answers: bool = True, **more: Any) -> tuple[FoundProcess, Told]:
    cgroup = f"system.slice/{unit}" if unit else more.pop("cgroup", "")
    process = FoundProcess(7, "vllm", ServerArguments(()), {}, cgroup, urls=(url,), **more)
    return process, Told(url, FACTS if answers else None)


async def matched(models: Mapping[str, str], *servers: tuple[FoundProcess, Told]) -> tuple[str, ...]:
    """The names of the models that the servers are, on a host of the address OURS. `models`: "URL UNIT" by name."""
    told = [ModelTold(name, said.partition(" ")[0], said.partition(" ")[2]) for name, said in models.items()]
    places = Places((await find_places(told)).of, frozenset({OURS}))
    return tuple(model.name if model else "" for model in match_models(told, servers, places))


@pytest.mark.parametrize(
    ("configured", "is_it"),
    [
        (HERE, True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("http://0.0.0.0:8000", True),
        (f"http://{OURS}:8000", True),
        ("http://127.0.1.1:8000", True),
        ("http://127.0.0.1:8001", False),
        ("http://192.0.2.6:8000", False),
        ("http://no-such-host.invalid:8000", False),
        ("unix:/run/vllm/a.sock", False),
        (f"{HERE} v.service", True),
    ],
)
async def test_a_server_at_every_address_is_the_model_at_one_of_them(configured: str, is_it: bool) -> None:
    assert await matched({"a": configured}, server(HERE, open_ports={8000: True})) == ("a" if is_it else "",)


@pytest.mark.parametrize("configured", [f"http://{OURS}:8000", "http://127.0.1.1:8000"])
async def test_a_server_at_loopback_alone_is_not_at_the_hosts_other_addresses(configured: str) -> None:
    assert await matched({"a": configured}, server(HERE, open_ports={8000: False})) == ("",)
    assert await matched({"a": HERE}, server(f"http://{OURS}:8000", open_ports={8000: True})) == ("",)


async def test_a_socket_is_the_same_by_whatever_path(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert await matched({"a": f"unix:{tmp_path}/link/s"}, server(f"unix:{tmp_path}/s")) == ("a",)
    assert await matched({"a": f"unix:{tmp_path}/t"}, server(f"unix:{tmp_path}/s")) == ("",)


async def test_one_model_is_one_server() -> None:
    """Two servers that one unit starts, and two that were told one port."""
    two = (server("http://127.0.0.1:8001", "v.service"), server(HERE, "v.service"))
    assert await matched({"a": f"{HERE} v.service"}, *two) == ("", "a")
    silent = [(process, Told("")) for process, _ in (server(HERE), server(HERE))]
    assert await matched({"a": HERE}, *silent) == ("a", "")
    # Who answers there is it, whoever else was told to listen there.
    assert await matched({"a": HERE}, silent[0], server(HERE)) == ("", "a")


async def test_a_unit_tells_which_server_it_is_until_one_answers() -> None:
    nowhere = FoundProcess(7, "vllm", ServerArguments(()), {}, "system.slice/v.service")
    models = {"a": "http://no-such-host.invalid:8000 v.service"}
    assert await matched(models, (nowhere, Told(""))) == ("a",)
    assert await matched(models, (nowhere, Told("")), (nowhere, Told(""))) == ("", ""), "which of them is not known"
    assert await matched(models, server(HERE, "v.service")) == ("",), "it answers elsewhere than sleepd asks"
    assert await matched(models, server(HERE, "w.service", answers=False)) == ("",)


def test_a_server_in_another_unit_than_the_configuration_says_is_told() -> None:
    def told(unit: str, cgroup: str) -> list[Finding]:
        model = ModelTold("a", HERE, unit)
        found = judge_servers([server(HERE, cgroup=f"system.slice/{cgroup}")], [model], asked=True)
        return [one for one in found if one.check == "server.managed"]

    assert [one.verdict.value for one in told("v.service", "v.service")] == ["ok"]
    assert [one.verdict.value for one in told("", "v.service")] == ["ok"]
    container = f"docker-{'a1' * 32}.scope"
    assert [one.verdict.value for one in told("v.service", container)] == ["ok"], "which the unit may have started"
    (wrong,) = told("w.service", "v.service")
    assert (wrong.verdict, wrong.found) == ("warn", "it does not run in w.service, as the configuration says")


def test_two_servers_at_one_port_of_this_host_are_told() -> None:
    def others(one: FoundProcess, other: FoundProcess) -> Sequence[str] | None:
        return others_at_its_port(one, [one, other], hides=False)

    one, other = server(HERE)[0], server("http://localhost:8000")[0]
    assert others(one, other) == ["pid 7"]
    assert others(one, one) == []
    for apart in (
        server("http://127.0.0.1:8001"),
        server(f"http://{OURS}:8000"),
        server(HERE, cgroup=CONTAINER, apart=True),
        server(HERE, cgroup=CONTAINER, apart=None),
        server(HERE, apart=True),
    ):
        assert others(one, apart[0]) == []
    assert others(server("unix:/a")[0], server("unix:/a")[0]) == []
    assert others(one, server(HERE, cgroup=CONTAINER)[0]) == ["pid 7"], "a container in this host's network"


def test_who_else_was_told_to_listen_at_a_port_is_not_known_where_processes_or_networks_are_hidden() -> None:
    one, other = server(HERE)[0], server(HERE, apart=None)[0]
    assert others_at_its_port(one, [one, other], hides=False) == ["pid 7"]
    assert others_at_its_port(one, [one], hides=False) == []
    assert others_at_its_port(one, [one], hides=True) is None
    contained = server(HERE, cgroup=CONTAINER, apart=None)[0]
    assert others_at_its_port(contained, [contained], hides=False) is None


@pytest.mark.parametrize(
    ("words", "facts", "stays"),
    [
        (("m",), None, False),
        (("m", "--mm-encoder-tp-mode", "data"), None, True),
        (("--config", "x.yaml"), None, None),
        (("--config", "x.yaml"), FACTS, None),
        (("--config", "x.yaml"), replace(FACTS, described=True), False),
        (("--config", "x.yaml"), replace(FACTS, described=True, encoder_mode="data"), True),
        # vLLM does so where the model cannot do otherwise.
        (("m", "--mm-encoder-tp-mode=data"), replace(FACTS, described=True, encoder_mode="weights"), False),
        (("m", "--mm-encoder-tp-mode=data"), replace(FACTS, described=True), True),
    ],
)
def test_whether_the_encoder_stays_is_known_by_what_it_tells_else_by_its_arguments(
    words: tuple[str, ...], facts: EngineFacts | None, stays: bool | None
) -> None:
    assert keeps_encoder(ServerArguments(words), facts) is stays
