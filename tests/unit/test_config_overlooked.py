"""Files that look like configuration and are not read are told; what was put aside on purpose is not."""

import time
from pathlib import Path

import pytest

from sleepd.cli.daemon import main
from sleepd.config.errors import ConfigError
from sleepd.config.load import load_config

MODEL = '[models.a]\nurl = "http://127.0.0.1:8000"\ngpus = ["0"]\n'


def warnings_of(folder: Path, *names: str) -> list[str]:
    (folder / "conf.d").mkdir(exist_ok=True)
    (folder / "sleepd.toml").write_text(MODEL)
    for name in names:
        (folder / name).write_text("")
    return [f"{w.place}: {w.message}" for w in load_config(folder, environ={}).warnings]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("models.tml", "did you mean models.toml?"),
        ("models.TOML", "did you mean models.toml?"),
        ("10-x.conf", "name it *.toml, or append .off"),
        ("models", "name it *.toml, or append .off"),
        ("models.yaml", "name it *.toml, or append .off"),
    ],
)
def test_a_file_of_another_suffix_is_told(tmp_path: Path, name: str, hint: str) -> None:
    (told,) = warnings_of(tmp_path, f"conf.d/{name}")
    assert told == f"{tmp_path}/conf.d/{name}: is not read: read are sleepd.toml and conf.d/*.toml; {hint}"


def test_a_file_beside_the_main_one_is_told(tmp_path: Path) -> None:
    (told,) = warnings_of(tmp_path, "models.toml")
    assert told.startswith(f"{tmp_path}/models.toml: is not read: ")
    assert told.endswith("; move it to conf.d/models.toml")


def test_what_was_put_aside_is_not(tmp_path: Path) -> None:
    aside = ("x.toml.bak", "x.toml~", ".x.toml.swp", "#x.toml#", "x.toml.off", "x.toml.dpkg-dist", "x.toml.rpmsave")
    assert (
        warnings_of(tmp_path, *(f"conf.d/{name}" for name in (*aside, "README", "x.toml")), "api.key", "ca.pem") == []
    )


def test_a_folder_of_them_is_not_told_without_end(tmp_path: Path) -> None:
    assert len(warnings_of(tmp_path, *(f"conf.d/{n}.conf" for n in range(100)))) == 20


def test_check_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    warnings_of(tmp_path, "conf.d/models.tml")
    assert main(["check", "--config", str(tmp_path)]) == 0
    assert "conf.d/models.tml: warning: is not read" in capsys.readouterr().err


def test_thousands_of_rules_are_refused_in_a_moment(tmp_path: Path) -> None:
    """And so are their changes in another file: to merge them took time by their square."""
    rule = "[[rules]]\nname = 'r{}'\nwhen = {{ idle = '1m' }}\nthen = {{ sleep = 1 }}\n"
    text = "".join(rule.format(n) for n in range(3000))
    (tmp_path / "sleepd.toml").write_text(MODEL + text)
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "again.toml").write_text(text)
    began_s = time.process_time()
    with pytest.raises(ConfigError, match="wanted at most 256 rules, found 3002"):
        load_config(tmp_path, environ={})
    assert time.process_time() - began_s < 15.0  # half a second; by their square it was half a minute
