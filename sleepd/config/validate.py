"""One section against its schema: pydantic's findings as sentences an operator can act on."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sleepd.config.errors import KeyPath, Place, Problem, did_you_mean, quote_key, show
from sleepd.config.schema import ModelKeys, Section

S = TypeVar("S", bound=Section)

_WANTED = {
    "string_type": "wanted a string",
    "bool_type": "wanted true or false",
    "int_type": "wanted a whole number",
    "list_type": "wanted a list",
    "dict_type": "wanted a table",
    "model_type": "wanted a table",
    "greater_than_equal": "wanted at least {ge}",
    "less_than_equal": "wanted at most {le}",
    "too_short": "wanted at least one",
    "literal_error": "wanted {expected}",
}


@dataclass(slots=True)
class Findings:
    """What is wrong so far, and where each key stands."""

    places: Mapping[KeyPath, Place]
    config_dir: str
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    refused: set[KeyPath] = field(default_factory=set)
    """Keys that were written and are wrong: nobody goes on about what they would have meant."""

    def place(self, path: KeyPath) -> Place:
        """Return where the key stands, or the nearest table around it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return Place(self.config_dir)

    def refuse(self, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(self.place(path), f"{name_key(path)}{message}"))

    def warn(self, path: KeyPath, message: str) -> None:
        self.warnings.append(Problem(self.place(path), f"{name_key(path)}{message}"))


def name_key(path: KeyPath) -> str:
    """Return how a message begins that is about this key: "[models.chat] url: "; indices are left out."""
    parts = [quote_key(part) for part in path if not isinstance(part, int)]
    if len(parts) <= 1:
        return f"{parts[0]}: " if parts else ""
    return f"[{'.'.join(parts[:-1])}] {parts[-1]}: "


def validate(schema: type[S], value: object, path: KeyPath, findings: Findings) -> S | None:
    """Return the section, without the keys that are wrong: what is wrong with them was added to the findings.

    None where nothing is left that could be a section. What can still be checked beside an error is checked, so that
    an operator sees everything at once.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        _translate(schema, detail, path, findings)
    if not isinstance(value, dict):
        return None
    wrong = {detail["loc"][0] for detail in details if detail["loc"]}
    findings.refused |= {(*path, str(key)) for key in wrong}
    sound = dict(value)
    for detail in details:
        at = tuple(part for part in detail["loc"] if part != "[key]")
        # Of a table with keys of its own nothing is made up: half a `when` is another one.
        _leave_out(sound, at[:1] if keys_of(schema, at[:1]) else at)
    try:
        return schema.model_validate(sound)
    except ValidationError:
        return None  # what is required is missing or wrong


def _leave_out(table: dict[Any, Any], path: Sequence[str | int]) -> None:
    """Take the key at `path` out of the table, and nothing beside it; copies the tables on the way."""
    inner = table.get(path[0]) if path else None
    if len(path) > 1 and isinstance(inner, dict) and path[1] in inner:
        table[path[0]] = inner = dict(inner)
        _leave_out(inner, path[1:])
    elif path:
        table.pop(path[0], None)


def refuse_unknown(key: str, known: Iterable[str], path: KeyPath, findings: Findings, *, hint: str = "") -> None:
    """Add the error for a key that nothing here understands."""
    words = sorted(known)
    inside = [quote_key(part) for part in path if not isinstance(part, int)]
    where = f" in [{'.'.join(inside)}]" if inside else ""
    guess = did_you_mean(key, words)
    allowed = f"{' Allowed' if guess else '; allowed'}: {', '.join(words)}"
    message = f"unknown key {show(key)}{where}{hint or guess + allowed}"
    findings.problems.append(Problem(findings.place((*path, key)), message))


def _translate(schema: type[BaseModel], detail: ErrorDetails, path: KeyPath, findings: Findings) -> None:
    at: KeyPath = tuple(part for part in detail["loc"] if part != "[key]")
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        key = str(at[-1])
        hint = _dotted_hint(schema, path, key, detail["input"])
        refuse_unknown(key, keys_of(schema, at[:-1]), path + at[:-1], findings, hint=hint)
    elif kind == "missing":
        findings.refuse(path + at, "is missing")
    elif kind == "sleepd":
        findings.refuse(path + at, str(context["sentence"]))
    else:
        wanted = _WANTED[kind].format(**context) if kind in _WANTED else detail["msg"]
        findings.refuse(path + at, f"{wanted}, found {show(detail['input'])}")


def keys_of(schema: type[BaseModel], path: KeyPath = ()) -> list[str]:
    """Return the keys that may stand in the table `path` of a section."""
    for part in path:
        inner = schema.model_fields[str(part)].annotation if part in schema.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        schema = inner
    return [info.alias or name for name, info in schema.model_fields.items()]


def _dotted_hint(schema: type[BaseModel], path: KeyPath, key: str, value: Any) -> str:
    """TOML reads [models.a.b] as a table b in a: say so where a name with a dot was meant."""
    if schema is not ModelKeys or path[:1] != ("models",) or not isinstance(value, dict):
        return ""
    name = f"{path[1]}.{key}"
    known = keys_of(ModelKeys)
    while len(value) == 1 and isinstance(next(iter(value.values())), dict) and next(iter(value)) not in known:
        key, value = next(iter(value.items()))
        name = f"{name}.{key}"
    return f'; a name with a dot must be quoted: [models."{name}"]'
