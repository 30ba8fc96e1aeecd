"""`sleepd tune` as a person or a script runs it."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sleepd.adapters.history_sql import MIGRATIONS
from sleepd.cli import daemon
from sleepd.config.load import PACKAGED_DIR, load_config
from sleepd.core.rules import Action, ActionKind, IdleFor

HOUR_S = 3600
CHAT = '[models.chat]\nurl = "http://127.0.0.1:8001"\ngpus = ["0"]\n'
CONFIG = CHAT + CHAT.replace("chat", "batch").replace("8001", "8002")
HOST = '[host]\nram = "64GiB"\nused = "8GiB"\n[[gpus]]\nmemory = "80GiB"\n[model_defaults]\nbackup = "4GiB"\n'


def requests() -> list[tuple[int, str]]:
    """Somebody asks chat every 7 minutes by day, twice; batch once every 5 hours."""
    found = [(day * 24 * HOUR_S + 8 * HOUR_S + n * 420, "chat") for day in (0, 1) for n in range(60)]
    return sorted([*found, *((n * 5 * HOUR_S, "batch") for n in range(9))])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it, and tables are cut to it
    (tmp_path / "etc" / "conf.d").mkdir(parents=True)
    (tmp_path / "etc" / "sleepd.toml").write_text(CONFIG)
    (tmp_path / "host.toml").write_text(HOST)
    lines = [f"{at_s},{model},100,60\n" for at_s, model in requests()]
    (tmp_path / "t.csv").write_text("seconds,model,prompt_tokens,output_tokens\n" + "".join(lines))
    return tmp_path


def tune(place: Path, *options: str, trace: bool = True) -> int:
    source = ["--trace", str(place / "t.csv")] if trace else []
    return daemon.main(["tune", *source, "--config", str(place / "etc"), "--host", str(place / "host.toml"), *options])


def test_the_busy_one_stays_awake_longer_and_the_rare_one_shorter(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(place, "--waited", "10%") == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[1][:6] == ["chat", "120", "5m", "8m", "1", "70.0%"]
    assert lines[2][:6] == ["batch", "9", "5m", "30s", "1", "100.0%"]
    assert "Asked for: at most 10% of requests wait or are turned away." in said.out


def test_at_the_same_gpu_hours_nobody_waits_longer(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(place, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    before, after = found["before"]["total"], found["after"]["total"]
    assert found["met"] is True
    assert after["awake_gpu_gib_h"] <= before["awake_gpu_gib_h"]
    assert after["waited"] <= before["waited"]
    assert found["kept"] is True, "the limit of six actions an hour keeps chat awake as often as a timeout could"
    assert tune(place, "--json") == 0
    assert json.loads(capsys.readouterr().out) == found, "the same requests, the same answer"


def test_a_target_out_of_reach_is_said_and_the_nearest_shown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(place, "--p95", "100ms") == 0
    capsys.readouterr()
    assert tune(place, "--gib-hours", "1") == 1
    assert "No timeouts that were tried meet this; these come nearest." in capsys.readouterr().out


def test_what_is_written_is_what_was_played(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = place / "etc" / "conf.d" / "90-tuned.toml"
    assert tune(place, "--waited", "10%", "--write", str(target)) == 0
    assert capsys.readouterr().err == f"Wrote {target}. Look at it, then: sleepd check, sleepctl reload\n"
    text = target.read_text()
    assert "asked for: at most 10% of requests wait or are turned away." in " ".join(text.replace("#", "").split())
    rules = load_config(place / "etc", shipped_dir=PACKAGED_DIR).settings.rules
    naps = [
        (rule.name, rule.applies_to, rule.conditions, rule.action) for rule in rules if rule.name != "host-ram-pressure"
    ]
    assert naps == [
        ("nap", frozenset(), (IdleFor(300.0),), Action(ActionKind.SLEEP, 1)),
        ("tuned-30s", frozenset({"batch"}), (IdleFor(30.0),), Action(ActionKind.SLEEP, 1)),
        ("tuned-8m", frozenset({"chat"}), (IdleFor(480.0),), Action(ActionKind.SLEEP, 1)),
    ]
    assert daemon.main(["check", "--config", str(place / "etc")]) == 0


def test_what_is_written_comes_to_what_was_foretold(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of models that are not in the configuration nothing is foretold that no file can bring about."""
    (place / "etc" / "sleepd.toml").write_text(CHAT)
    target = place / "etc" / "conf.d" / "90-tuned.toml"
    assert tune(place, "--waited", "10%", "--json", "--write", str(target)) == 0
    found = json.loads(capsys.readouterr().out)
    assert "# Not in the configuration, so not here: batch." in target.read_text()
    assert found["models"]["batch"] == {"idle_s": 300.0, "idle_now_s": 300.0, "level": 1, "replaces": []}
    assert found["remarks"][-1].startswith("models that are not in the configuration keep the rules that they have")
    command = ["simulate", "--trace", str(place / "t.csv"), "--config", str(place / "etc"), "--host"]
    assert daemon.main([*command, str(place / "host.toml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["policies"] == {str(place / "etc"): found["after"]}


def test_a_file_that_is_there_stays_without_force(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = place / "90-tuned.toml"
    target.write_text("mine")
    assert tune(place, "--write", str(target)) == 1
    assert target.read_text() == "mine"
    assert "is there already and was left as it is; --force replaces it" in capsys.readouterr().err
    assert tune(place, "--write", str(target), "--force", "--plays", "1") == 0
    assert "sleepd tune: the present rules stay: nothing was written" in capsys.readouterr().err
    assert target.read_text() == "mine", "nothing that was tried is better: there is nothing to write"
    assert tune(place, "--write", str(target), "--force", "--plays", "1", "--waited", "10%") == 0
    assert target.read_text().startswith("# Written by sleepd tune on ")


def timeouts_in_force(place: Path) -> dict[str, list[float]]:
    rules = load_config(place / "etc", shipped_dir=PACKAGED_DIR).settings.rules
    naps = [(rule.applies_to, rule.conditions[0]) for rule in rules if rule.enabled and len(rule.conditions) == 1]
    return {
        model: [c.seconds for models, c in naps if model in models and isinstance(c, IdleFor)]
        for model in ("chat", "batch")
    }


@pytest.mark.parametrize("second", ["90-tuned.toml", "91-tuned.toml"])
def test_tuning_again_replaces_what_was_tuned(place: Path, second: str) -> None:
    conf_d = place / "etc" / "conf.d"
    assert tune(place, "--waited", "10%", "--write", str(conf_d / "90-tuned.toml")) == 0
    assert timeouts_in_force(place) == {"chat": [480.0], "batch": [30.0]}
    assert tune(place, "--waited", "80%", "--write", str(conf_d / second), "--force") == 0
    assert timeouts_in_force(place) == {"chat": [30.0], "batch": [30.0]}


def test_nothing_is_written_where_the_target_is_not_met(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = place / "etc" / "conf.d" / "90-tuned.toml"
    assert tune(place, "--waited", "0%", "--write", str(target)) == 1
    assert capsys.readouterr().err == (
        "sleepd tune: the target is not met: nothing was written; ask for what can be had\n"
    )
    assert not target.exists()


def test_a_file_that_would_not_be_read_or_has_the_models_is_not_written(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(place, "--write", str(place / "etc" / "conf.d" / "90-tuned")) == 2
    assert "--write: wanted a name that ends in .toml, as conf.d is read, found " in capsys.readouterr().err
    main = place / "etc" / "sleepd.toml"
    assert tune(place, "--waited", "10%", "--write", str(main), "--force") == 1
    assert "sleepd.toml is where model batch is configured: it was left as it is" in capsys.readouterr().err
    assert main.read_text() == CONFIG


def test_the_backups_of_models_that_nobody_asks_for_take_their_room(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rare = CHAT.replace("chat", "rare").replace("8001", "8003")
    (place / "etc" / "sleepd.toml").write_text(f"{CONFIG}{rare}[model_defaults]\nmax_level = 2\n")
    (place / "host.toml").write_text(HOST + '[models.rare]\nbackup = "44GiB"\n')
    assert tune(place, "--json", "--waited", "20%") == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert {name: model["level"] for name, model in models.items()} == {"chat": 1, "batch": 2}


def test_backups_that_do_not_fit_send_the_cheapest_to_level_2(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "host.toml").write_text(HOST + '[models.batch]\nbackup = "48GiB"\n')
    (place / "etc" / "sleepd.toml").write_text(CONFIG + "[model_defaults]\nmax_level = 2\n")
    assert tune(place, "--json", "--waited", "20%") == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert {name: model["level"] for name, model in models.items()} == {"chat": 1, "batch": 2}


def test_the_daemon_s_own_history_will_do(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = place / "history.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for version, statements in enumerate(MIGRATIONS, start=1):
            for statement in statements:
                db.execute(statement)
            db.execute(f"PRAGMA user_version={version}")
        db.executemany("INSERT INTO names (id, name) VALUES (?, ?)", [(1, "chat"), (2, "batch")])
        rows = [(1767571200 + at_s // 60 * 60, 1 if model == "chat" else 2) for at_s, model in requests()]
        rows.append((1767571200 - 400 * 24 * HOUR_S, 1))  # of more than a year, the last year is taken
        db.executemany(
            "INSERT INTO minutes (minute, model, requests, finished, prompt_tokens, output_tokens)"
            " VALUES (?, ?, 1, 1, 100, 60)",
            rows,
        )
    before = path.read_bytes()
    assert tune(place, "--history", str(path), "--waited", "10%", trace=False) == 0
    said = capsys.readouterr().out
    assert [line.split()[:4] for line in said.splitlines()[1:3]] == [
        ["chat", "120", "5m", "8m"],
        ["batch", "9", "5m", "2m"],
    ], "no timeout below two minutes, since history knows minutes"
    assert f"Requests are from {path}." in said
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--waited", "many"], "--waited: wanted a share such as \"10%\" (0% to 100%), found 'many'"),
        (["--p95", "5"], "--p95: wanted a duration such as"),
        (["--gib-hours", "-3"], '--gib-hours: wanted a number such as 2500, or a share such as "80%"'),
        (["--begin", "soon"], "--begin: wanted a time such as 2026-01-05T00:00:00+00:00, found 'soon'"),
    ],
)
def test_what_cannot_be_asked_for(
    place: Path, capsys: pytest.CaptureFixture[str], options: list[str], wanted: str
) -> None:
    assert tune(place, *options) == 2
    said = capsys.readouterr()
    assert said.err.startswith("sleepd tune: ")
    assert wanted in said.err
    assert said.out == ""


def test_too_little_to_tell_anything(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "t.csv").write_text("seconds,model,prompt_tokens,output_tokens\n0,chat,1,1\n7200,chat,1,1\n")
    assert tune(place) == 2
    assert capsys.readouterr().err == "sleepd tune: wanted requests over at least 1d, found 2 over 2h\n"
    assert tune(place, "--history", str(place / "none.db"), trace=False) == 2
    assert "wanted sleepd's history database, found none; --history names another" in capsys.readouterr().err
    (place / "other.db").write_bytes(b"no database at all, but longer than a header of one would be" * 20)
    assert tune(place, "--history", str(place / "other.db"), trace=False) == 2
    assert "wanted a history database that can be read, found: " in capsys.readouterr().err
