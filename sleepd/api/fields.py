"""Request bodies: a JSON object whose fields are a table, checked before anything is asked of the daemon."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from sleepd.api.problems import Problem

BODY_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a body. `least` and `most` bound numbers; `whole`: no fractions.

    `only_default`: the contract knows the field, this version only its default.
    """

    name: str
    default: bool | int | float
    least: float = 0.0
    most: float = 86_400.0
    whole: bool = False
    only_default: bool = False

    @property
    def wanted(self) -> str:
        if isinstance(self.default, bool):
            return f"{self.name}: true or false"
        return f"{self.name}: a {'whole ' if self.whole else ''}number from {self.least:g} to {self.most:g}"


_WAIT = Field("wait", True)
_TIMEOUT = Field("timeout_s", 600.0)
_FORCE = Field("force", False)

WAKE_FIELDS = (_WAIT, _TIMEOUT, _FORCE, Field("dry_run", False, only_default=True))
SLEEP_FIELDS = (
    Field("level", 1, least=1, most=2, whole=True),
    Field("drain_s", 0.0),
    _FORCE,
    Field("via_wake", False, only_default=True),
    _WAIT,
    _TIMEOUT,
)
NO_FIELDS: tuple[Field, ...] = ()


def read_fields(raw: bytes, fields: Sequence[Field]) -> dict[str, Any]:
    """Return a value for every field, defaults included; an empty body is an empty object. Raises Problem."""
    try:
        body = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError) as error:
        raise Problem("invalid", "the body is not JSON", wanted="a JSON object", found=str(error)[:120]) from None
    if not isinstance(body, dict):
        raise Problem("invalid", "the body is not an object", wanted="a JSON object", found=_show(body))
    known = {field.name: field for field in fields}
    for name in body:
        if name not in known:
            near = get_close_matches(name, list(known), n=1)
            allowed = ", ".join(sorted(known)) or "no fields"
            hint = f'did you mean "{near[0]}"?' if near else ""
            raise Problem("invalid", "the body has an unknown field", wanted=allowed, found=_show(name), hint=hint)
    return {field.name: _read_value(field, body.get(field.name, field.default)) for field in fields}


def _read_value(field: Field, value: Any) -> bool | int | float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if isinstance(field.default, bool):
        right = isinstance(value, bool)
    else:
        right = is_number and math.isfinite(value) and field.least <= value <= field.most
        right = right and not (field.whole and not isinstance(value, int))
    if not right:
        found = f"{field.name}: {_show(value)}"
        raise Problem("invalid", f"the field {field.name} has a wrong value", wanted=field.wanted, found=found)
    if field.only_default and value != field.default:
        detail = f"{field.name} is not supported by this version"
        raise Problem("invalid", detail, wanted=f"{field.name}: {_show(field.default)}", found=_show(value))
    return bool(value) if isinstance(field.default, bool) else value


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 80 else f"{text[:79]}…"
