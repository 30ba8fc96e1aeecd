"""What was found of vLLM servers written down as `sleepd check` wants it, and what is said to be missing."""

from __future__ import annotations

from typing import Any

import pytest
from found_servers import facts, load, process
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.config.load import parse_layer
from sleepd.doctor.servers import UNTRUSTED
from sleepd.survey.asking import Told
from sleepd.survey.first_config import Found, missing, name_servers, shared_names, write_config


def test_servers_of_one_name_are_told_apart_by_their_units_then_by_number() -> None:
    told = Told("unix:/a", facts("Qwen/Qwen3-8B"))
    units = [process(cgroup=f"system.slice/vllm@{name}.service") for name in ("left", "right")]
    assert name_servers([(one, told) for one in units]) == ("left", "right")
    assert name_servers([(process(), told)] * 3) == ("qwen3-8b", "qwen3-8b-2", "qwen3-8b-3")
    assert name_servers([(process("/models/My Model!"), Told(""))]) == ("my-model",)
    assert name_servers([(process(), Told(""))]) == ("model",)
    pair = [Found(name, one, told) for name, one in zip(("left", "right"), units, strict=True)]
    assert shared_names(pair) == {"Qwen/Qwen3-8B"}
    assert "others serve Qwen/Qwen3-8B too" in " ".join(missing(pair[0], shared_names(pair)))


def test_what_stands_in_a_file_of_arguments_is_not_called_missing() -> None:
    def can_sleep(*words: str) -> bool:
        return "it cannot sleep" not in " ".join(missing(Found("a", process(*words), Told("")), frozenset()))

    assert [can_sleep(*words) for words in ((), ("--enable-sleep-mode",), ("--config", "a.yaml"))] == [
        False,
        True,
        True,
    ]


def test_a_certificate_that_does_not_hold_is_no_sign_of_loading() -> None:
    one = Found("a", process(), Told("https://127.0.0.1:1", silent=f"{UNTRUSTED} (self-signed certificate)"))
    assert "loading" not in next(missing(one, frozenset()))


def test_levels_are_told_from_the_recipe_of_the_release() -> None:
    def text(**more: Any) -> str:
        one = Found("a", process(cgroup="s/a.service"), Told("unix:/a", facts("a", **more)))
        return " ".join(write_config([one], when="now").replace("\n#  ", "").split())

    assert "may be safe here. With max_level = 2" in text()
    assert "level 2 is not: vLLM 0.17.0 resumes before the weights are back" in text(version="0.17.0")
    assert "will not be put to sleep: vLLM 0.16.0 dies of a request while asleep" in text(version="0.16.0")


def test_an_address_that_other_hosts_reach_is_told() -> None:
    told = Told("http://127.0.0.1:8000", facts("a"))

    def reach(*words: str, at: Told = told, **more: Any) -> tuple[str, ...]:
        sentences = missing(Found("a", process(*words, **more), at), frozenset())
        return tuple(one.partition(",")[0] for one in sentences if "other hosts" in one)

    here = "http://127.0.0.1:8000"
    assert reach(open_ports={8000: True, 9: False}) == (f"{here} may be reached from other hosts",)
    assert reach(open_ports={8000: False, 9: True}) == ()
    assert reach() == (f"{here} may be within reach of other hosts",), "the kernel does not list its sockets"
    # Another program may have this port at another address.
    assert reach("--host", "127.0.0.1", open_ports={8000: True}) == ()
    in_container = f"system.slice/docker-{'a1' * 32}.scope"
    assert reach("--host", "127.0.0.1", cgroup=in_container) == (f"{here} may be within reach of other hosts",)
    assert reach("--uds", "/s", at=Told("unix:/s", facts("a"))) == ()
    beyond = write_config([Found("a", process(), Told("http://10.0.0.5:8000", facts("a")), ("0",), True)], when="now")
    assert "allow_exposed = true" in beyond


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=30)
_URL = st.sampled_from(
    ["", "unix:/run/vllm/a b.sock", "http://127.0.0.1:8000", "https://10.0.0.5:1", "http://[::1]:9", "unix:/\x7f"]
)
_CGROUP = st.sampled_from(
    [
        "",
        "system.slice/vllm@a.service",
        "user.slice/session-1.scope",
        f"docker-{'a' * 64}.scope",
        "system.slice/ü.service",
    ]
)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(_TEXT, _URL, _CGROUP, st.lists(_TEXT, max_size=2), st.booleans(), st.sampled_from([(), ("0",)])),
        min_size=1,
        max_size=4,
        unique_by=lambda drawn: drawn[1],
    )
)
def test_whatever_was_found_the_file_is_valid(tmp_path_factory: pytest.TempPathFactory, drawn: list[Any]) -> None:
    servers = [
        (
            process(model, cgroup=cgroup, urls=(url,)),
            Told(url, facts(*names) if spoke else None, "" if spoke else "odd"),
        )
        for model, url, cgroup, names, spoke, _ in drawn
    ]
    names = name_servers(servers)
    assert len(set(names)) == len(names)
    found = [
        Found(name, one, told, gpus or ("0",), guessed=not gpus)
        for name, (one, told), (*_, gpus) in zip(names, servers, drawn, strict=True)
    ]
    text = write_config(found, when="now")
    parse_layer("models.toml", text)
    folder = tmp_path_factory.getbasetemp() / "survey"
    folder.mkdir(exist_ok=True)
    assert load(folder, text) <= set(names)
