"""Cases of the configuration's public contract: files, and what they amount to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sleepd.config.errors import ConfigError
from sleepd.config.load import load_config
from sleepd.config.settings import Config
from sleepd.core import rules as r

GIB = 1 << 30
CHAT = '[models.chat]\nurl = "http://127.0.0.1:8001"\ngpus = ["0"]\n'
OTHER = '[models.other]\nurl = "http://127.0.0.1:8002"\ngpus = ["0"]\n'
NAP = '[[rules]]\nname = "nap"\nwhen = { idle = "5m" }\nthen = { sleep = 1 }\n'


@dataclass(frozen=True)
class Case:
    """Files below /etc/sleepd (names without a folder), /usr/lib ("lib/...") and what they amount to."""

    sentence: str
    main: str = ""
    shows: Callable[[Config], object] | None = None
    error: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    warns: str = ""


def rule(when: str, then: str = "sleep = 1", more: str = "") -> str:
    return f'{CHAT}[[rules]]\nname = "x"\nwhen = {{ {when} }}\nthen = {{ {then} }}\n{more}\n'


def conditions(config: Config, name: str = "x") -> tuple[r.Condition, ...]:
    return next(rule.conditions for rule in config.settings.rules if rule.name == name)


def margin(config: Config) -> int:
    return config.settings.gpu_margin_bytes


def show(case: Case, folder: Path) -> None:
    """Assert what the case says of a host whose files lie in this folder."""
    etc, lib = folder / "etc", folder / "lib"
    (etc / "conf.d").mkdir(parents=True)
    lib.mkdir()
    for name, text in {"sleepd.toml": case.main, **case.files}.items():
        path = folder / name if name.startswith("lib/") else etc / name
        path.write_text(text.replace('"@', f'"{etc}/'))
        path.chmod(0o644 if name == "loose" else 0o600)
    found: Config | ConfigError
    try:
        found = load_config(etc, shipped_dir=lib, environ=case.environ)
    except ConfigError as error:
        found = error
    if isinstance(found, ConfigError):
        assert case.error, found
        assert case.error in str(found)
        return
    assert not case.error, "accepted"
    assert case.shows is None or case.shows(found), found
    told = [str(warning) for warning in found.warnings if "in this version" not in warning.message]
    assert not case.warns or any(case.warns in text for text in told), told
