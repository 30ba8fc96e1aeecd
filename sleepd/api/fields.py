"""Request bodies: a JSON object whose fields are a table, which checks what comes and describes itself."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, TypeAlias

from sleepd.api.problems import Problem
from sleepd.core.units import WallS

BODY_LIMIT = 64 * 1024
LONGEST_S = 86_400.0
LAST_WALL_S: WallS = 253_402_214_400.0
"""The last day of the year 9999."""
GPUS_LIMIT = 64
_GPU_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_/:.-]{0,127}")
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    name: str
    default: bool
    meaning: str

    @property
    def wanted(self) -> str:
        return "true or false"

    def accepts(self, value: object) -> bool:
        return isinstance(value, bool)

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "boolean", "default": self.default}


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `least` to `most`; `whole`: without fractions. A default of None may be left out or null, unless
    the number is `required`."""

    name: str
    default: float | None
    meaning: str
    least: float = 0.0
    most: float = LONGEST_S
    whole: bool = False
    step: int = 1
    """A whole number is a multiple of this."""
    required: bool = False

    @property
    def wanted(self) -> str:
        if self.step > 1:
            return f"a multiple of {self.step} from {self.least:g} to {self.most:g}"
        or_null = " or null" if self.default is None and not self.required else ""
        return f"a {'whole ' if self.whole else ''}number from {self.least:g} to {self.most:g}{or_null}"

    def accepts(self, value: object) -> bool:
        if value is None:
            return self.default is None and not self.required
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        # Compared as it is: NaN is within nothing, and a whole number too large for a float is JSON, too. 2.0 is a
        # whole number to JSON Schema, and to programs that know no others.
        return self.least <= value <= self.most and not (self.whole and value % self.step)

    @property
    def schema(self) -> dict[str, Any]:
        kind = "integer" if self.whole else "number"
        if self.required:
            return {"type": kind, "minimum": self.least, "maximum": self.most}
        types = kind if self.default is not None else [kind, "null"]
        step = {"multipleOf": self.step} if self.step > 1 else {}
        return {"type": types, "minimum": self.least, "maximum": self.most, "default": self.default} | step


@dataclass(frozen=True, slots=True)
class Text:
    """One line of at most `most` characters. A default of None: it must be given."""

    name: str
    default: str | None
    meaning: str
    most: int = 200

    @property
    def wanted(self) -> str:
        return f"one line of at most {self.most} characters"

    def accepts(self, value: object) -> bool:
        # Half a surrogate pair is JSON, but no text: nothing could print it.
        return isinstance(value, str) and len(value) <= self.most and bool(_LINE.fullmatch(value))

    @property
    def schema(self) -> dict[str, Any]:
        default = {} if self.default is None else {"default": self.default}
        return {"type": "string", "maxLength": self.most, "pattern": r"^[^\x00-\x1f\x7f-\x9f]*$"} | default


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these words."""

    name: str
    words: tuple[str, ...]
    default: str
    meaning: str

    @property
    def wanted(self) -> str:
        return "one of " + ", ".join(word or '""' for word in self.words)

    def accepts(self, value: object) -> bool:
        return value in self.words

    @property
    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words), "default": self.default}


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment as RFC 3339 tells it; may be left out."""

    name: str
    meaning: str
    default: None = None

    @property
    def wanted(self) -> str:
        return 'RFC 3339 such as "2026-01-31T08:00:00Z"'

    def accepts(self, value: object) -> bool:
        return value is None or (isinstance(value, str) and parse_moment(value) is not None)

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


@dataclass(frozen=True, slots=True)
class Token:
    """What another answer gave: text of one form; empty where it is left out."""

    name: str
    pattern: str
    meaning: str
    default: str = ""

    @property
    def wanted(self) -> str:
        return f"the `{self.name}` of another answer"

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and bool(re.fullmatch(self.pattern, value, re.ASCII))

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^({self.pattern})$"}


@dataclass(frozen=True, slots=True)
class GpuNames:
    """GPUs as nvidia-smi names them: indices or UUIDs, at least one and at most `GPUS_LIMIT`. It must be given."""

    name: str
    meaning: str
    default: None = None

    @property
    def wanted(self) -> str:
        return f"a list of 1 to {GPUS_LIMIT} indices or UUIDs of GPUs"

    def accepts(self, value: object) -> bool:
        return isinstance(value, list) and 1 <= len(value) <= GPUS_LIMIT and all(map(_is_gpu_name, value))

    @property
    def schema(self) -> dict[str, Any]:
        index = {"type": "integer", "minimum": 0, "maximum": 65_535}
        uuid = {"type": "string", "pattern": f"^{_GPU_NAME.pattern}$"}
        return {"type": "array", "minItems": 1, "maxItems": GPUS_LIMIT, "items": {"anyOf": [index, uuid]}}


def _is_gpu_name(value: object) -> bool:
    if isinstance(value, str):
        return bool(_GPU_NAME.fullmatch(value))
    # As with Number: 2.0 is a whole number to JSON Schema.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 65_535 and not value % 1


Field: TypeAlias = Flag | Number | Text | Choice | Moment | Token | GpuNames


def parse_moment(written: str) -> WallS | None:
    """Return the moment in seconds since the epoch, within what a calendar can tell; None for what is none."""
    try:
        # The + of an offset that was not escaped in a query is a space by the time it is read.
        moment = datetime.fromisoformat(written.replace(" ", "+"))
        return min(max((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), 0.0), LAST_WALL_S)
    except (ValueError, OverflowError):
        return None


NO_FIELDS: tuple[Field, ...] = ()


def body_schema(fields: Sequence[Field]) -> dict[str, Any]:
    """Return the JSON Schema of an object with these fields."""
    return {
        "type": "object",
        "properties": {field.name: field.schema | {"description": field.meaning} for field in fields},
        "required": [field.name for field in fields if _is_required(field)],
        "additionalProperties": False,
    }


def read_fields(raw: bytes, fields: Sequence[Field]) -> dict[str, Any]:
    """Return a value for every field, defaults included; an empty body is an empty object. Raises Problem."""
    try:
        body = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError) as error:
        raise Problem("invalid", "the body is not JSON", wanted="a JSON object", found=str(error)[:120]) from None
    if not isinstance(body, dict):
        raise Problem("invalid", "the body is not an object", wanted="a JSON object", found=_show(body))
    refuse_unknown(body, [field.name for field in fields], "the body has an unknown field")
    return {field.name: _read_value(field, body) for field in fields}


def read_query(given: Mapping[str, str], fields: Sequence[Field]) -> dict[str, Any]:
    """Return a value for every field of a query, defaults included. Raises Problem."""
    refuse_unknown(given, [field.name for field in fields], "the query has an unknown field")
    body: dict[str, Any] = dict(given)
    for field in fields:
        written = body.get(field.name)
        if isinstance(field, Number) and written is not None and re.fullmatch(r"-?\d{1,18}", written, re.ASCII):
            body[field.name] = int(written)
    return {field.name: _read_value(field, body) for field in fields}


def refuse_unknown(given: Mapping[str, object], known: Sequence[str], what: str) -> None:
    """Raise Problem for the first name that is none of the known ones."""
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            allowed = ", ".join(sorted(known)) or "none"
            hint = f'did you mean "{near[0]}"?' if near else ""
            raise Problem("invalid", what, wanted=allowed, found=_show(name), hint=hint)


def _read_value(field: Field, body: Mapping[str, Any]) -> Any:
    if field.name not in body and _is_required(field):
        detail = f"the field {field.name} is missing"
        raise Problem("invalid", detail, wanted=f"{field.name}: {field.wanted}", found="nothing")
    value = body.get(field.name, field.default)
    if not field.accepts(value):
        wanted, found = f"{field.name}: {field.wanted}", f"{field.name}: {_show(value)}"
        raise Problem("invalid", f"the field {field.name} has a wrong value", wanted=wanted, found=found)
    return int(value) if isinstance(field, Number) and field.whole and value is not None else value


def _is_required(field: Field) -> bool:
    if isinstance(field, Number):
        return field.required
    return isinstance(field, Text | GpuNames) and field.default is None


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 80 else f"{text[:79]}…"
