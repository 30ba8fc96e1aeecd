"""The completion scripts: every verb and option is in all of them, and bash plays its own. zsh and fish are played in
`tests/terminal`."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from sleepd.cli.completion import bash, fish, zsh
from sleepd.cli.verbs import COMMON, SHELLS, VERBS
from tests.cli.terminal import LIMIT_S, run
from tests.unit.api_rig import FakeDaemon

SCRIPTS = {"bash": bash(), "zsh": zsh(), "fish": fish()}
FOLDER = str(Path(sys.executable).parent)


async def play(*command: str) -> list[str]:
    """Return the lines that a shell prints, with sleepctl where it looks for programs."""
    environ = os.environ | {"PATH": f"{FOLDER}:{os.environ['PATH']}"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environ)
    async with asyncio.timeout(LIMIT_S):
        out, err = await process.communicate()
    assert (process.returncode, err) == (0, b""), err
    return out.decode().splitlines()


async def in_bash(*words: str) -> set[str]:
    """Return what bash offers for the last of these words."""
    quoted = " ".join(f"'{word}'" for word in words)
    ask = f"COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _sleepctl; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    return set(await play("bash", "--norc", "-c", f"{SCRIPTS['bash']}\n{ask}"))


async def test_bash_offers_verbs_options_models_and_commands(daemon: FakeDaemon) -> None:
    models = set(daemon.world.models)
    asked = [
        (("sleepctl", ""), {verb.name for verb in VERBS} | {"--json", "--socket", "--help", "--version"}),
        (("sleepctl", "re"), {"reset", "reserve", "reservations", "reload", "report"}),
        (("sleepctl", "--socket", "/nowhere", "wa"), {"wake"}),
        (
            ("sleepctl", "wake", ""),
            models
            | {option.flag for verb in VERBS if verb.name == "wake" for option in verb.options}
            | {"--json", "--socket", "--help"},
        ),
        (("sleepctl", "wake", "q"), {"qwen3-32b"}),
        (("sleepctl", "sleep", "--l"), {"--level"}),
        (("sleepctl", "sleep", "--level", ""), {"1", "2"}),
        (("sleepctl", "sleep", "--drain", ""), {""}),
        (("sleepctl", "completion", "f"), {"fish"}),
    ]
    found = await asyncio.gather(*(in_bash(*words) for words, _ in asked))
    for (words, wanted), offered in zip(asked, found, strict=True):
        assert offered == wanted, words
    assert "printenv" in await in_bash("sleepctl", "hold", "chat", "--", "printe")


async def test_bash_offers_holds_to_let_go_of(daemon: FakeDaemon) -> None:
    await run("hold", "embed", "--ttl", "5m", "--id", "job-1")
    assert await in_bash("sleepctl", "hold", "--release", "") == {"job-1"}


@pytest.mark.parametrize("shell", SHELLS)
async def test_every_verb_and_option_is_offered(shell: str) -> None:
    ran = await run("completion", shell)
    assert (ran.code, ran.out) == (0, SCRIPTS[shell])
    for verb in VERBS:
        assert verb.name in ran.out
        for option in (*verb.options, *COMMON):
            assert (f"-l {option.flag[2:]}" if shell == "fish" else option.flag) in ran.out
