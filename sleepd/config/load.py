"""From files and the environment to settings: the layers, merged, with the place of every key remembered."""

import errno
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sleepd.config.compile import compile_config
from sleepd.config.errors import ConfigError, KeyPath, Place, Problem, did_you_mean, show
from sleepd.config.overlooked import overlooked
from sleepd.config.schema_rules import FIXED_SECTIONS
from sleepd.config.settings import Config
from sleepd.config.toml_lines import Spot, find_lines

DEFAULT_DIR = Path("/etc/sleepd")
SHIPPED_DIR = Path("/usr/lib/sleepd/conf.d")
PACKAGED_DIR = Path(__file__).parent / "defaults"
"""The shipped rules as they lie in the package, for hosts where nothing is installed below /usr/lib."""

ENVIRONMENT_PREFIX = "SLEEPD__"
FILE_LIMIT = 1 << 20
_DEPTH_LIMIT = 6
_TWICE = re.compile(r"Cannot declare \((.*)\) twice")
_TOML_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")


@dataclass(frozen=True, slots=True)
class Layer:
    """The keys of one file, or of one environment variable, and where they stand."""

    source: str
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int]
    inline: Mapping[KeyPath, Spot] = field(default_factory=dict)
    """Keys that stand within a line, behind others."""

    def place(self, path: KeyPath) -> Place:
        for length in range(len(path), 0, -1):
            if path[:length] in self.inline:
                return Place(self.source, *self.inline[path[:length]])
            if path[:length] in self.lines:
                return Place(self.source, self.lines[path[:length]])
        return Place(self.source)


def load_config(
    config_dir: Path,
    *,
    shipped_dir: Path = SHIPPED_DIR,
    environ: Mapping[str, str] | None = None,
    below: Sequence[Layer] = (),
    without: Path | None = None,
) -> Config:
    """Return the settings that the files of `config_dir`, the shipped ones and the environment amount to.

    `below`: keys that hold where nobody writes them otherwise. `without`: a file that is passed over. Raises
    ConfigError with everything that is wrong; never anything else for what stands in a file. Reads files.
    """
    environ = os.environ if environ is None else environ
    problems: list[Problem] = []
    layers: list[Layer] = list(below)
    passed_over = without.resolve() if without is not None else None
    files = [path for path in _list_files(config_dir, shipped_dir, problems) if path.resolve() != passed_over]
    for path in files:
        try:
            layers.append(read_layer(path))
        except ConfigError as error:
            problems += error.problems
    layers += _read_environment(environ, problems)
    tree, places = _merge(layers, problems)
    written = {layer.source for layer in layers if layer.values}
    filled = frozenset(path for path in files if str(path) in written)
    config = compile_config(tree, places, problems, config_dir=config_dir, files=tuple(files), filled=filled)
    return replace(config, warnings=(*overlooked(config_dir), *config.warnings))


def read_layer(path: Path) -> Layer:
    """Return the keys of one TOML file. Raises ConfigError."""
    source = str(path)
    try:
        # Without O_NONBLOCK the opening of a pipe waits for somebody to write into it.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            kind = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(kind) and not os.path.samefile(path, os.devnull):
                raise ConfigError([Problem(Place(source), "wanted a file, found something else")])
            raw = file.read(FILE_LIMIT + 1)
    except IsADirectoryError:
        raise ConfigError([Problem(Place(source), "wanted a file, found something else")]) from None
    except OSError as error:
        gone = " (a link to nowhere)" if path.is_symlink() and error.errno == errno.ENOENT else ""
        raise ConfigError([Problem(Place(source), f"cannot be read: {error.strerror}{gone}")]) from None
    if len(raw) > FILE_LIMIT:
        raise ConfigError([Problem(Place(source), "wanted at most 1MiB of configuration, found more")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(Place(source, line), "wanted UTF-8 text, found other bytes")]) from None
    return parse_layer(source, text)


def parse_layer(source: str, text: str) -> Layer:
    """Return the keys of a TOML text. Raises ConfigError with the line where it is no TOML."""
    text = text.replace("\r\n", "\n")
    try:
        return Layer(source, tomllib.loads(text), *find_lines(text))
    except ValueError as error:
        found = _TOML_PLACE.search(str(error))
        raw = _TOML_PLACE.sub("", str(error)).removesuffix(" (at end of document)")
        message = _reword(raw)
        line = int(found[1]) if found else text.count("\n") + (not text.endswith("\n"))
        # Of what stands twice it tells where the second one ends.
        spot = (line, int(found[2]) if found and message == raw else 0)
        raise ConfigError([Problem(Place(source, *spot), f"not valid TOML: {message}")]) from None
    except RecursionError:
        raise ConfigError(
            [Problem(Place(source), "wanted a flat configuration, found lists nested too deeply")]
        ) from None


def _reword(message: str) -> str:
    """Say in the words of a file what tomllib says in Python's."""
    if twice := _TWICE.fullmatch(message):
        return f"the table [{twice[1].rstrip(',').replace(', ', '.')}] stands twice".replace("'", "")
    return "the key stands twice" if message == "Cannot overwrite a value" else message


def _list_files(config_dir: Path, shipped_dir: Path, problems: list[Problem]) -> list[Path]:
    """Return the files in the order in which they apply; one in `config_dir`/conf.d masks its shipped namesake."""
    if not os.path.isdir(config_dir):
        hint = "create it with a sleepd.toml, or name another with --config DIR"
        found = "a file" if os.path.exists(config_dir) else "nothing"
        problems.append(Problem(Place(str(config_dir)), f"wanted a configuration directory, found {found}; {hint}"))
        return []
    lists: list[list[Path]] = []
    for folder in (config_dir / "conf.d", shipped_dir if os.path.isdir(shipped_dir) else PACKAGED_DIR):
        try:
            lists.append(list_folder(folder))
        except OSError as error:
            lists.append([])
            problems.append(Problem(Place(str(folder)), f"cannot be read: {error.strerror}"))
    own, shipped = lists
    masked = {path.name for path in own}
    main = config_dir / "sleepd.toml"
    first = [main] if os.path.lexists(main) else []
    return [path for path in shipped if path.name not in masked] + first + own


def list_folder(folder: Path) -> list[Path]:
    """Return the configuration files in it by name, none where it does not exist. Raises OSError."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names) if name.endswith(".toml") and not name.startswith(".")]


def _read_environment(environ: Mapping[str, str], problems: list[Problem]) -> list[Layer]:
    layers = []
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        place = Place(f"environment variable {name}")
        parts = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        if len(parts) < 2 or not all(parts) or parts[0] not in FIXED_SECTIONS:
            sections = ", ".join(section.upper() for section in FIXED_SECTIONS)
            guess = did_you_mean(parts[0], FIXED_SECTIONS).upper().replace("DID YOU MEAN", "did you mean")
            problems.append(Problem(place, f"wanted SLEEPD__SECTION__KEY with SECTION one of {sections}{guess}"))
            continue
        text = environ[name]
        try:
            parsed = tomllib.loads(f"value = {text}")
        except (ValueError, RecursionError):
            parsed = {}
        if parsed.keys() != {"value"}:
            hint = "strings need quotes, as in '\"2GiB\"'"
            problems.append(Problem(place, f"wanted one value as TOML writes it, found {show(text)}; {hint}"))
            continue
        values = parsed["value"]
        for part in reversed(parts):
            values = {part: values}
        layers.append(Layer(place.source, values, {}))
    return layers


def _merge(layers: list[Layer], problems: list[Problem]) -> tuple[dict[str, Any], dict[KeyPath, Place]]:
    """Return one tree and the place each key in it came from: later keys win, lists replace, rules accumulate."""
    tree: dict[str, Any] = {}
    places: dict[KeyPath, Place] = {}
    for layer in layers:
        for key, value in layer.values.items():
            if key == "rules" and isinstance(value, list) and isinstance(tree.get("rules", []), list):
                _merge_rules(tree.setdefault("rules", []), value, layer, places, problems)
            else:
                _merge_key(tree, (key,), value, layer, places)
    return tree, places


def _merge_key(table: dict[str, Any], path: KeyPath, value: Any, layer: Layer, places: dict[KeyPath, Place]) -> None:
    key = str(path[-1])
    places[path] = layer.place(path)
    if not isinstance(value, dict) or len(path) >= _DEPTH_LIMIT:
        table[key] = value
        return
    inner = table.get(key)
    if not isinstance(inner, dict):
        inner = table[key] = {}
    for name, item in value.items():
        _merge_key(inner, (*path, name), item, layer, places)


def _merge_rules(
    rules: list[Any], added: list[Any], layer: Layer, places: dict[KeyPath, Place], problems: list[Problem]
) -> None:
    here: set[str] = set()
    at_of: dict[str, int] = {}
    for at, old in enumerate(rules):
        if isinstance(old, dict) and isinstance(old.get("name"), str):
            at_of.setdefault(old["name"], at)
    before, written = _by_rule(places), _by_rule((*layer.lines, *layer.inline))
    for index, rule in enumerate(added):
        name = rule.get("name") if isinstance(rule, dict) else None
        named = name if isinstance(name, str) else None
        if named is not None and named in here:
            problems.append(Problem(layer.place(("rules", index)), f"the rule {show(named)} stands twice in this file"))
            continue
        here.update([named] if named is not None else [])
        at = len(rules) if named is None else at_of.get(named, len(rules))
        rules[at : at + 1] = [rule]
        for stale in before.get(at, ()):
            del places[stale]
        places[("rules", at)] = layer.place(("rules", index))
        for path in written.get(index, ()):
            places[("rules", at, *path[2:])] = layer.place(path)


def _by_rule(paths: Iterable[KeyPath]) -> dict[int, list[KeyPath]]:
    """The paths of keys in rules, by the rule's number."""
    found: dict[int, list[KeyPath]] = {}
    for path in paths:
        if path[0] == "rules" and len(path) > 1 and isinstance(path[1], int):
            found.setdefault(path[1], []).append(path)
    return found
