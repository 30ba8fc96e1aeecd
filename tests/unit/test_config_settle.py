"""A reload reads files that stand still, and refuses to forget what no operator means to be forgotten."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sleepd.config.errors import ConfigError
from sleepd.config.load import load_config
from sleepd.config.settings import Config
from sleepd.config.settle import TRIES, load_settled

MODEL = '[models.%s]\nurl = "http://127.0.0.1:%d"\ngpus = ["0"]\n'
BOTH = MODEL % ("a", 1) + MODEL % ("b", 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "sleepd.toml").write_text(BOTH)
    return tmp_path


def reload(folder: Path, running: Config, *while_waiting: Callable[[], object]) -> Config:
    """Reload while somebody does these things, one in each moment that the reader waits."""
    acts = iter(while_waiting)

    def sleep(seconds: float) -> None:
        next(acts, lambda: None)()

    return load_settled(folder, running, environ={}, sleep=sleep)


def load(folder: Path) -> Config:
    return load_config(folder, environ={})


def write(folder: Path, text: str) -> Callable[[], object]:
    return lambda: (folder / "sleepd.toml").write_text(text)


def test_what_stands_still_is_read_as_ever(folder: Path) -> None:
    assert reload(folder, load(folder)) == load(folder)


def test_half_a_file_is_not_read(folder: Path) -> None:
    running = load(folder)
    write(folder, MODEL % ("a", 1))()
    config = reload(folder, running, write(folder, MODEL % ("a", 1) + "#"), write(folder, BOTH))
    assert set(config.settings.models) == {"a", "b"}


def test_a_file_that_is_away_for_a_moment_is_not_missed(folder: Path) -> None:
    """Editors that rename the old one away before they write the new one; copies of whole folders."""
    running = load(folder)
    (folder / "sleepd.toml").unlink()
    config = reload(folder, running, write(folder, BOTH))
    assert set(config.settings.models) == {"a", "b"}


def test_a_file_that_changes_while_it_is_read_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = load(folder)
    os.utime(folder / "sleepd.toml", (1e9, 1e9))
    left = [1]
    from sleepd.config import settle

    def change_and_load(config_dir: Path, **more: object) -> Config:
        if left:
            left.pop()
            found = load_config(config_dir, environ={})
            write(folder, BOTH + MODEL % ("c", 3))()
            return found
        return load_config(config_dir, environ={})

    monkeypatch.setattr(settle, "load_config", change_and_load)
    assert set(reload(folder, running).settings.models) == {"a", "b", "c"}


def test_a_file_that_never_stands_still_is_an_error(folder: Path) -> None:
    running = load(folder)
    acts = [write(folder, BOTH + "#" * n) for n in range(TRIES + 1)]
    write(folder, BOTH)()
    with pytest.raises(ConfigError, match=r"sleepd\.toml: goes on changing while it is read"):
        reload(folder, running, *acts)


def test_an_emptied_file_is_refused_and_a_comment_or_a_deletion_is_not(folder: Path) -> None:
    (folder / "conf.d" / "b.toml").write_text(MODEL % ("b", 2))
    (folder / "sleepd.toml").write_text(MODEL % ("a", 1))
    running = load(folder)
    (folder / "conf.d" / "b.toml").write_text("")
    with pytest.raises(ConfigError, match=r"b\.toml: is empty, and had keys when it was read last"):
        reload(folder, running)
    (folder / "conf.d" / "b.toml").write_text("# nothing any more\n")
    assert set(reload(folder, running).settings.models) == {"a"}
    (folder / "conf.d" / "b.toml").unlink()
    assert set(reload(folder, running).settings.models) == {"a"}


def test_an_empty_file_that_was_always_empty_and_a_mask_are_no_surprise(folder: Path) -> None:
    (folder / "conf.d" / "10-idle.toml").write_text("")
    (folder / "conf.d" / "x.toml").write_text('[gpu]\nmargin = "2GiB"\n')
    running = load(folder)
    (folder / "conf.d" / "x.toml").unlink()
    (folder / "conf.d" / "x.toml").symlink_to("/dev/null")
    assert [rule.name for rule in reload(folder, running).settings.rules] == ["host-ram-pressure"]


def test_errors_of_other_files_are_told_beside(folder: Path) -> None:
    running = load(folder)
    write(folder, "")()
    (folder / "conf.d" / "y.toml").write_text("[gpu]\nmargni = 1\n")
    with pytest.raises(ConfigError) as caught:
        reload(folder, running)
    assert len(caught.value.problems) == 2


def test_a_reload_does_not_forget_every_model(folder: Path) -> None:
    running = load(folder)
    write(folder, "# later\n")()
    with pytest.raises(ConfigError, match="no model is configured, and 2 models are managed"):
        reload(folder, running)
    nothing = load(folder)
    assert reload(folder, nothing).settings.models == {}
