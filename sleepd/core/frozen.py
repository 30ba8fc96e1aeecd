"""`replace` for frozen values: what `dataclasses.replace` does, for a tenth of its time.

A turn replaces records of fifty fields several times. The standard way sets each field of the copy through
`object.__setattr__`, which is most of what a turn would cost. Here the copy is made as an instance of a twin: a class
of the same slots that is not frozen, so that plain assignments fill it; then it becomes an instance of its own class.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from dataclasses import replace as replace_slowly
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import replace as replace
else:

    def replace(value: Any, /, **changes: Any) -> Any:
        """Return a copy with these fields changed. Raises TypeError where there is no such field."""
        copy = _COPIES.get(type(value)) or _learn(type(value))
        return copy(value, changes)


Copy = Callable[[Any, Mapping[str, Any]], Any]
_COPIES: dict[type, Copy] = {}


def _learn(kind: type) -> Copy:
    """The copier of this class; the standard one where more than its slots makes up an instance."""
    names = tuple(f.name for f in fields(kind))
    plain = kind.__bases__ == (object,) and tuple(getattr(kind, "__slots__", ())) == names
    checked = hasattr(kind, "__post_init__") or not all(f.init for f in fields(kind))
    copy = _copier(kind, names) if plain and not checked else _copy_slowly
    _COPIES[kind] = copy
    return copy


def _copy_slowly(value: Any, changes: Mapping[str, Any]) -> Any:
    return replace_slowly(value, **changes)


def _copier(kind: type, names: tuple[str, ...]) -> Copy:
    """Written out field by field, as dataclasses writes `__init__`: Python is fast where it knows names beforehand."""
    twin = type(kind.__name__, (), {"__slots__": names})
    lines = (
        "def copy(value, changes):",
        "    new = twin()",
        *(f"    new.{name} = value.{name}" for name in names),
        "    try:",
        "        for name, changed in changes.items():",
        "            setattr(new, name, changed)",
        "    except AttributeError as error:",
        "        raise TypeError(str(error)) from None",
        "    new.__class__ = kind",
        "    return new",
    )
    known: dict[str, Any] = {"twin": twin, "kind": kind}
    exec("\n".join(lines), known)  # noqa: S102  (nothing but the names of fields)
    made: Copy = known["copy"]
    return made
