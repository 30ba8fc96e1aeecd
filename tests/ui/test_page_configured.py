"""Where the page comes from: keys, the token at the socket, and `sleepctl ui-token`."""

from pathlib import Path

import pytest

from sleepd.api.access import Role
from sleepd.cli.ctl import main
from sleepd.client import ApiProblem, Client
from sleepd.config.load import load_config
from sleepd.config.settings import Config
from tests.browser.stages import Running
from tests.unit.api_rig import FakeDaemon, serving

MODEL = '[models.chat]\nurl = "http://127.0.0.1:8001"\ngpus = ["0"]\n'


def load(folder: Path, text: str) -> Config:
    (folder / "sleepd.toml").write_text(f"{MODEL}{text}")
    return load_config(folder, shipped_dir=folder, environ={})


def test_it_is_off_until_it_is_wanted(tmp_path: Path) -> None:
    assert load(tmp_path, "").service.ui.on == frozenset()
    wanted = load(tmp_path, '[metrics]\nlisten = ["127.0.0.1:9800"]\n[ui]\nenabled = true\nsession = "1h"\n')
    assert (wanted.service.ui.on, wanted.service.ui.session_s) == ({"metrics", "gateway"}, 3600)
    assert wanted.warnings == ()


def test_what_an_operator_may_overlook_is_told(tmp_path: Path) -> None:
    (nowhere,) = load(tmp_path, '[ui]\nenabled = true\non = ["gateway"]\n').warnings
    assert nowhere.message.startswith("[ui] enabled: shows nothing while [gateway] listen = []")
    (plain,) = load(tmp_path, '[ui]\norigins = ["http://gpu1:9800", "https://gpu1"]\n').warnings
    assert "[ui] origins: without https://" in plain.message


class Served:
    """The API on a socket, in a thread."""

    def __init__(self, path: Path) -> None:
        self.daemon, self._path, self._running = FakeDaemon(), path, Running()
        self._serving = serving(self.daemon, path)

    def __enter__(self) -> "Served":
        self._running.do(self._serving.__aenter__())
        return self

    def __exit__(self, *failure: object) -> None:
        self._running.do(self._serving.__aexit__(None, None, None))
        self._running.end()


def test_sleepctl_prints_an_address_that_logs_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Served(tmp_path / "s") as served:
        command = ["--socket", str(tmp_path / "s"), "ui-token"]
        assert main([*command, "--role", "viewer", "--ttl", "1m"]) == 0
        told = capsys.readouterr()
        assert told.out == "http://127.0.0.1:9800/ui#token=a-token\n"
        assert told.err == "role viewer, good until 2026-01-01T00:01:00.000Z\n"
        assert main([*command, "--role", "king"]) == 1
        assert "one of" in capsys.readouterr().err
        served.daemon.has_page = False
        assert main(command) == 1
        assert "set [ui] enabled = true" in capsys.readouterr().err


def test_without_a_role_nobody_becomes_admin_by_chance(tmp_path: Path) -> None:
    with Served(tmp_path / "s"):
        client = Client(tmp_path / "s")
        assert client.ui_token().body["role"] == Role.OPERATOR.name.lower()
        assert client.ui_token(role="admin").body["role"] == "admin"
        with pytest.raises(ApiProblem, match="ttl_s"):
            client.ui_token(ttl_s=1e9)
