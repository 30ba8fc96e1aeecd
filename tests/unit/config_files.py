"""Configurations in files: loaded, or refused with these errors."""

from pathlib import Path

import pytest

from sleepd.config.errors import ConfigError
from sleepd.config.load import load_config
from sleepd.config.settings import Config

MODEL = '[models.chat]\nurl = "http://127.0.0.1:8001"\ngpus = ["0"]\n'


def load(folder: Path, environ: dict[str, str] | None = None, **files: str) -> Config:
    for name, text in files.items():
        where = folder if name == "sleepd" else folder / "conf.d"
        (where / f"{name}.toml").write_text(text)
    return load_config(folder, shipped_dir=folder.parent / "lib", environ=environ or {})


def errors(folder: Path, environ: dict[str, str] | None = None, **files: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, environ, **files)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def one_error(folder: Path, text: str) -> str:
    found = errors(folder, sleepd=text)
    assert len(found) == 1, found
    return found[0]
