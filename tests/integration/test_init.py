"""`sleepd init` on this machine, whatever else runs there: what it writes, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sleepd.cli.daemon import main
from sleepd.survey.arguments import ServerArguments
from sleepd.survey.processes import FoundProcess, Survey

SERVER = (sys.executable, "-m", "sleepd.cli.daemon", "fake-vllm", "--name", "org/Found-By-Init")


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Path]:
    """A server that answers, as a process of its own, told where to listen relative to its own folder."""
    command = (*SERVER, "--uds", "init.sock")
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "speaks vLLM" in process.stdout.readline()
        yield tmp_path / "init.sock"
        process.terminate()


def test_it_writes_what_runs_and_never_over_what_is_there(
    socket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "etc"
    target = folder / "conf.d" / "models.toml"
    assert main(["init", "--dir", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "found-by-init: vLLM 0.32.0, awake, " in told
    assert f"Wrote {target}, in observe mode." in told
    text = target.read_text()
    assert f'"unix:{socket}"' in text
    assert (target.stat().st_mode & 0o777, list(target.parent.iterdir())) == (0o644, [target])
    assert main(["check", "--config", str(folder)]) == 0
    assert main(["check", "--config", str(folder), "--origins"]) == 0
    assert 'mode = "observe"' in capsys.readouterr().out

    target.write_text("# mine\n")
    assert main(["init", "--dir", str(folder)]) == 1
    assert f"{target} is there already and was left as it is; --force replaces it" in capsys.readouterr().err
    assert target.read_text() == "# mine\n"
    assert main(["init", "--dir", str(folder), "--force"]) == 0
    assert "found-by-init" in target.read_text()

    # What an administrator wrote by hand for the same server: told, and left to them.
    (folder / "sleepd.toml").write_text(f'[models.mine]\nurl = "unix:{socket}"\ngpus = ["0"]\n')
    capsys.readouterr()
    assert main(["init", "--dir", str(folder), "--force"]) == 1
    assert "it does not go with the other files there" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(
    socket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["init", "--dir", str(tmp_path / "file")]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "file") in error
    assert "nothing was written" in error
    (target := tmp_path / "conf.d" / "models.toml").mkdir(parents=True)
    assert main(["init", "--dir", str(tmp_path), "--force"]) == 1
    assert f"sleepd init: {target}: Is a directory; nothing was written." in capsys.readouterr().err


def test_a_link_to_nowhere_is_there_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "conf.d").mkdir()
    link = tmp_path / "conf.d" / "models.toml"
    link.symlink_to(tmp_path / "not-mounted-now")
    assert main(["init", "--dir", str(tmp_path)]) == 1
    assert "is there already and was left as it is" in capsys.readouterr().err
    assert link.is_symlink()


def test_what_somebody_writes_while_servers_are_asked_stays(
    socket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "etc" / "conf.d" / "models.toml"

    def write_meanwhile(text: str) -> None:
        target.parent.mkdir(parents=True)
        target.write_text("# mine\n")

    monkeypatch.setattr("sleepd.cli.init._check", write_meanwhile)
    assert main(["init", "--dir", str(tmp_path / "etc")]) == 1
    assert f"{target} is there already and was left as it is" in capsys.readouterr().err
    assert (target.read_text(), list(target.parent.iterdir())) == ("# mine\n", [target])


def test_what_servers_say_is_printed_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ServerArguments(("evil\x1b]0;owned\x07\udcff",))
    environ = {"CUDA_VISIBLE_DEVICES": '0,0,1,GPU-" ]\n[models.evil],99999999999,MIG-é'}
    process = FoundProcess(7, "me\x1b[2J\udcff", words, environ, urls=(f"unix:{tmp_path}/nobody",))
    monkeypatch.setattr("sleepd.cli.init.survey_processes", lambda table: Survey((process,), 12, whole=True))
    assert main(["init", "--dir", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "pid 7 of me [2J" in told
    assert all(char.isprintable() or char == "\n" for char in told)
    assert 'gpus = ["0", "1"]' in (tmp_path / "conf.d" / "models.toml").read_text()


def test_where_nothing_runs_it_says_how_to_start_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sleepd.cli.init.survey_processes", lambda table: Survey((), 12, whole=False))
    assert main(["init", "--dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "found none among 12 processes. Not all can be seen without root. Start one" in error
    assert list(tmp_path.iterdir()) == []
