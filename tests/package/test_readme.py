"""README's start, word by word, on a clean Debian: from the package to a sleeper that a request wakes."""

from __future__ import annotations

import json
import re

import pytest

from tests.package.machine import Machine
from tests.package.readme_start import start_blocks, troubles


def test_from_package_to_first_sleep_and_back(machine: Machine) -> None:
    follow(machine)


@pytest.mark.vllm
def test_from_package_to_first_sleep_and_back_with_real_servers(real_machine: Machine) -> None:
    follow(real_machine)


def follow(machine: Machine) -> None:
    """Do as it is written."""
    install, servers, first_look, sleep, ask = start_blocks()
    machine.sh(f"cd /srv\n{install}")
    machine.lend_gpus()
    machine.sh(servers)
    told = machine.say(first_look)
    for name in ("qwen3-8b", "gemma-3"):
        assert f"{name}: vLLM 0.32.0, awake, vllm@{name}.service" in told
    assert "missing:" not in told
    assert "ok: 2 models, 2 rules from 5 files" in told

    # No reader types faster than the daemon looks for the first time; a loaded machine may be slower than this test.
    machine.sh("until curl -sf --unix-socket /run/sleepd/sleepd.sock http://a/readyz; do sleep 0.1; done")
    shown = machine.say(sleep)
    assert machine.is_sleeping("qwen3-8b")
    assert not machine.is_sleeping("gemma-3")
    assert "asleep L1" in shown
    assert "rule nap" in shown
    for name in ("qwen3-8b", "gemma-3"):
        assert re.search(rf"^ok +server.managed +{name}: it is in the configuration$", shown, re.MULTILINE), shown
        assert re.search(rf"^ok +unit.kill-mode +vllm@{name}.service: KillMode=control-group$", shown, re.MULTILINE)
    assert re.search(r"^ok +host.backups +\S+ more for who is not asleep at level 1, 40GiB left$", shown, re.MULTILINE)
    assert re.search(r"^\d+ ok, 0 warn, 0 fail$", shown, re.MULTILINE), shown

    assert json.loads(machine.say(ask))["choices"][0]["message"]["content"]
    assert not machine.is_sleeping("qwen3-8b")
    assert troubles(shown) == []
    assert troubles(machine.say("sleepctl doctor")) == [], "in the end, too"
    written = machine.say("cat /etc/sleepd/conf.d/models.toml")
    assert 'unit   = "vllm@qwen3-8b.service"' in written
    assert "fenced = true" in written
    # The last step is in words: with the section gone, the rules act.
    machine.sh(r"sed -i '/^\[daemon\]/,/^mode/d' /etc/sleepd/conf.d/models.toml; sleepctl reload")
    assert machine.status("qwen3-8b")["mode"] == "enforce"
