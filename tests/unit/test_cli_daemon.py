"""`sleepd check` and the dispatcher around the other subcommands."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from sleepd import __version__
from sleepd.cli import daemon
from sleepd.config.errors import ConfigError, Place, Problem

MODEL = '[models.chat]\nurl = "http://127.0.0.1:8001"\ngpus = ["0"]\n'


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Which signals this process holds back is as before afterwards: what it starts later would do so too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_check_says_ok_with_its_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule = '[[rules]]\nname = "x"\nmodels = ["nothing"]\nwhen = { idle = "5m" }\nthen = { sleep = 1 }\n'
    (tmp_path / "sleepd.toml").write_text(MODEL + rule)
    assert daemon.main(["check", "--config", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out == "ok: 1 model, 3 rules from 3 files\n"
    assert said.err == f'{tmp_path}/sleepd.toml:6: warning: [rules] models: "nothing" of rule x matches no model\n'


def test_check_names_every_error_and_is_2(tmp_path: Path) -> None:
    (tmp_path / "sleepd.toml").write_text('[gpu]\nmargni = "1GiB"\n[host]\nreserve = 8\n')
    ran = subprocess.run(
        [sys.executable, "-m", "sleepd.cli.daemon", "check", "--config", str(tmp_path)], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.splitlines() == [
        f'{tmp_path}/sleepd.toml:2: unknown key "margni" in [gpu]; did you mean "margin"? Allowed: backend, '
        "capacity, margin",
        f'{tmp_path}/sleepd.toml:4: [host] reserve: wanted a size such as "24GiB" or "512MiB", found 8',
        "sleepd check: 2 errors",
    ]


def test_run_is_the_daemon_and_2_for_a_wrong_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Path] = []
    monkeypatch.setitem(
        sys.modules, "sleepd.service.process", SimpleNamespace(run=lambda folder: asked.append(folder) or 0)
    )
    assert daemon.main(["run", "--config", str(tmp_path)]) == 0
    assert asked == [tmp_path]

    def refuse(folder: Path) -> int:
        raise ConfigError([Problem(Place("a.toml", 3), "wrong")])

    monkeypatch.setitem(sys.modules, "sleepd.service.process", SimpleNamespace(run=refuse))
    assert daemon.main(["run"]) == 2
    assert capsys.readouterr().err == "a.toml:3: wrong\n"


def test_demo_and_fake_vllm_bring_their_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = SimpleNamespace(
        add_arguments=lambda parser: parser.add_argument("--speed", type=int), run=lambda options: options.speed
    )
    fake = SimpleNamespace(
        add_arguments=lambda parser: parser.add_argument("--port", type=int), run=lambda options: options.port
    )
    monkeypatch.setitem(sys.modules, "sleepd.sim.demo", demo)
    monkeypatch.setitem(sys.modules, "sleepd.cli.fake_vllm", fake)
    assert daemon.main(["demo", "--speed", "7"]) == 7
    assert daemon.main(["fake-vllm", "--port", "9"]) == 9


def test_version_usage_and_interruption(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        daemon.main(["--version"])
    assert capsys.readouterr().out == f"sleepd {__version__}\n"
    with pytest.raises(SystemExit, match="2"):
        daemon.main([])

    def interrupt(folder: Path) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "sleepd.service.process", SimpleNamespace(run=interrupt))
    assert daemon.main(["run"]) == 130


STARTS_SLOWLY = """
import os, signal
from types import SimpleNamespace
from sleepd.cli import daemon

def run(config_dir):
    os.kill(os.getpid(), signal.SIGHUP)
    return int(signal.SIGHUP in signal.sigpending())

daemon.import_module = lambda name: SimpleNamespace(run=run)
raise SystemExit(daemon.main(["run"]))
"""


def test_a_reload_asked_for_while_it_starts_ends_nothing_and_is_not_lost() -> None:
    # In a process of its own: a signal goes to any thread that does not hold it back, and the test runner has some.
    assert subprocess.run([sys.executable, "-c", STARTS_SLOWLY], check=False, timeout=60).returncode == 1
