"""What holds and where it was written; what a reload says of it."""

from pathlib import Path

import pytest

from sleepd.cli import daemon
from sleepd.config.effective import Effective
from sleepd.config.load import load_config
from sleepd.config.settings import Config
from sleepd.service.changes import LINES_LIMIT, changes

MODEL = '[models.chat]\nurl = "http://127.0.0.1:8001"\ngpus = ["0"]\n'
NAP = '[[rules]]\nname = "late"\nwhen = { idle = "5m" }\nthen = { sleep = 1 }\n'


def load(folder: Path, text: str, **environ: str) -> Config:
    (folder / "sleepd.toml").write_text(text)
    return load_config(folder, environ=environ)


def line(config: Config, table: str, key: str) -> Effective:
    (found,) = [value for value in config.effective if (value.table, value.key) == (table, key)]
    return found


def test_every_value_has_its_place(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_text('[gpu]\nmargin = "3GiB"\n')
    text = '[gateway]\nmax_wait = "9s"\n[model_defaults]\npriority = 4\n' + MODEL + 'labels = { team = "x" }\n' + NAP
    config = load(tmp_path, text, SLEEPD__HOST__RESERVE='"1GiB"')
    file = tmp_path / "sleepd.toml"
    found = {
        (table, key): (value.text, str(value.place or "default"))
        for table, key in (
            ("[gpu]", "margin"),
            ("[gpu]", "backend"),
            ("[host]", "reserve"),
            ("[models.chat]", "url"),
            ("[models.chat]", "priority"),
            ("[models.chat]", "max_wait"),
            ("[models.chat.labels]", "team"),
            ("[[rules]] late", "when"),
            ("[[rules]] late", "enabled"),
        )
        for value in [line(config, table, key)]
    }
    assert found == {
        ("[gpu]", "margin"): ('"3GiB"', f"{tmp_path}/conf.d/a.toml:2"),
        ("[gpu]", "backend"): ('"nvml"', "default"),
        ("[host]", "reserve"): ('"1GiB"', "environment variable SLEEPD__HOST__RESERVE"),
        ("[models.chat]", "url"): ('"http://127.0.0.1:8001"', f"{file}:6"),
        ("[models.chat]", "priority"): ("4", f"{file}:4"),
        ("[models.chat]", "max_wait"): ('"9s"', f"{file}:2"),
        ("[models.chat.labels]", "team"): ('"x"', f"{file}:8"),
        ("[[rules]] late", "when"): ('{ idle = "5m" }', f"{file}:11"),
        ("[[rules]] late", "enabled"): ("true", "default"),
    }


def test_origins_are_printed_and_what_keys_files_hold_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("key", "sk-secret-0123\n"), ("keys", "alice:ak-secret-0123\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    text = f'[gateway]\napi_keys_file = "{tmp_path}/keys"\n{MODEL}api_key_file = "{tmp_path}/key"\n'
    (tmp_path / "sleepd.toml").write_text(text)
    assert daemon.main(["check", "--config", str(tmp_path), "--origins"]) == 0
    printed = capsys.readouterr()
    assert f"{tmp_path}/sleepd.toml:6" in printed.out
    assert "secret" not in printed.out + printed.err
    (tmp_path / "sleepd.toml").write_text(text.replace(f"{tmp_path}/key", "sk-secret-0123"))
    assert daemon.main(["check", "--config", str(tmp_path)]) == 2
    assert "secret" not in capsys.readouterr().err


def test_changes_are_told_key_by_key(tmp_path: Path) -> None:
    other = MODEL.replace("chat", "other").replace("8001", "8002")
    before = load(tmp_path, f'[gpu]\nmargin = "2GiB"\n{MODEL}priority = 1\nlabels = {{ a = "1" }}\n{other}{NAP}')
    more = MODEL.replace("chat", "new").replace("8001", "8003")
    after = load(
        tmp_path,
        '[gpu]\nmargin = "3GiB"\n[daemon]\nstate_dir = "/srv"\n[api.roles]\nviewer = ["%x"]\n'
        + f'{MODEL}labels = {{ b = "2" }}\n{more}{NAP.replace("5m", "6m").replace("late", "late2")}'
        + '[[rules]]\nname = "nap"\nwhen = { idle = "9m" }\nthen = { sleep = 1 }\n',
    )
    assert changes(before, after) == (
        "model new added",
        "rule late2 added",
        "model other removed",
        "rule late removed",
        '[daemon] state_dir: "/var/lib/sleepd" → "/srv" (takes effect at the next start)',
        '[api.roles] viewer: ["*"] → ["%x"]',
        '[gpu] margin: "2GiB" → "3GiB"',
        "[models.chat] priority: 1 → 0",
        '[models.chat.labels] b: not set → "2"',
        '[models.chat.labels] a: "1" → not set',
        '[[rules]] nap when: { idle = "5m" } → { idle = "9m" }',
    )
    assert changes(after, after) == ()


def test_a_change_of_everything_is_cut_short(tmp_path: Path) -> None:
    def many(priority: int) -> str:
        return "".join(
            f'[models.m{n}]\nurl = "unix:/m{n}"\ngpus = ["0"]\npriority = {priority}\n' for n in range(LINES_LIMIT + 5)
        )

    told = changes(load(tmp_path, many(1)), load(tmp_path, many(2)))
    assert len(told) == LINES_LIMIT + 1
    assert told[-1] == "and 5 more"
