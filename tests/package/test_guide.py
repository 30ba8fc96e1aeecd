"""docs/guide.md, word by word, on a clean Debian: five models on a GPU that holds two, one after the other awake."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.package.machine import Machine
from tests.package.readme_start import troubles

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
_BLOCK = re.compile(r"^```(sh|toml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMES = ("qwen3-8b", "gemma-3", "coder", "embed", "whisper")


def test_five_models_on_one_gpu_as_the_guide_has_it(machine: Machine) -> None:
    """Every block in order: files are written where their first line says, commands are typed."""
    machine.sh("apt-get -qq install -y --no-install-recommends /srv/sleepd_*.deb")
    machine.lend_gpus()
    said = []
    for kind, block in _BLOCK.findall(GUIDE.read_text(encoding="utf-8")):
        if kind == "toml":
            path = block.splitlines()[0].removeprefix("# ")
            assert path.startswith("/etc/sleepd/conf.d/"), block
            machine.write(path, block)
            continue
        if "sleepctl explain" in block:  # before it, in words: the section goes, and the rules act
            machine.sh(r"sed -i '/^\[daemon\]/,/^mode/d' /etc/sleepd/conf.d/models.toml")
        said.append(machine.say(block))
    first, tried, five, asked, acting = said

    assert "qwen3-8b: vLLM 0.32.0, awake, vllm@qwen3-8b.service" in first
    assert troubles(first) == []
    # What it held is told where it has been measured by then: its server was found awake a moment ago.
    slept = r"^ok +try.sleep +qwen3-8b: 3GiB came back( of 3.2GiB that it held)?, by NVML$"
    assert re.search(slept, tried, re.MULTILINE)
    for name in NAMES:
        assert re.search(rf"^{name} +\S+ asleep L1 ", five, re.MULTILINE), five
    assert json.loads(asked)["choices"][0]["message"]["content"]
    assert "idle: wanted idle 1h" in acting, "the rule's own time for this model"
    assert {machine.status(name)["mode"] for name in NAMES} == {"enforce"}
    assert machine.say("systemctl is-enabled vllm@qwen3-8b vllm@coder || true") == "enabled\ndisabled"
