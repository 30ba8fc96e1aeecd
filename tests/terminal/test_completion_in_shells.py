"""What zsh and fish put down where somebody presses Tab behind `sleepctl`, with the scripts that the package brings."""

import sys
from pathlib import Path

import pytest

from sleepd.cli.completion import fish, zsh
from tests.integration.harness import Host
from tests.integration.waiting import wait_until
from tests.terminal.tmux import Tmux

pytestmark = pytest.mark.terminal

# As distributions have it: zsh finds the script by its name in a folder of $fpath, fish in one of completions.
SHELLS = {
    "zsh": (zsh, "_sleepctl", "zsh -f", "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D; PS1='at-zsh '"),
    "fish": (
        fish,
        "sleepctl.fish",
        "fish --no-config",
        "set fish_complete_path $PWD; function fish_prompt; echo 'at-fish '; end",
    ),
}


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes_verbs_options_and_models(host: Host, tmux: Tmux, shell: str) -> None:
    host.configure("chat")
    host.start_servers("chat")
    host.start_daemon().await_model("chat", state="awake")
    script, name, command, settings = SHELLS[shell]
    folder = host.root / "completions"
    folder.mkdir()
    (folder / name).write_text(script())
    tmux.run(f"cd {folder}; PATH={Path(sys.executable).parent}:$PATH {command}")
    tmux.run(settings)
    tmux.run("clear")
    # What is typed ahead of a prompt may be taken for something else.
    wait_until(lambda: tmux.screen().strip() == f"at-{shell}", f"{shell} to wait for words")
    tmux.type("sleepctl", "Space", "slee", "Tab")
    tmux.see(f"at-{shell} sleepctl sleep")
    tmux.type("-", "-dr", "Tab", "5s", "Space", "ch", "Tab")
    tmux.see(f"at-{shell} sleepctl sleep --drain 5s chat")
    tmux.type("C-c")
    tmux.run("exit")
