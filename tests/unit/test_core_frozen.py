"""`replace` of the core against the one of the standard library, for every kind of value that the core replaces."""

import dataclasses
from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from sleepd.core.frozen import replace
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Known, ModelSpec, Settings
from sleepd.core.record import ModelRecord
from sleepd.core.rules import SLEEP_1, IdleFor, Rule
from sleepd.core.world import World

SPEC = ModelSpec("llama", "http://127.0.0.1:8000")
RECORD = ModelRecord(SPEC)


def test_it_makes_what_the_standard_library_makes() -> None:
    changes = {"life": Life(State.AWAKE, Weights.LOADED), "in_flight": 3, "reason": "in use"}
    mine, standard = replace(RECORD, **changes), dataclasses.replace(RECORD, **changes)
    assert mine == standard
    assert repr(mine) == repr(standard)
    assert hash(replace(SPEC.__class__("a", "b"), labels=())) == hash(
        dataclasses.replace(SPEC, name="a", url="b", labels=())
    )
    assert type(mine) is ModelRecord


def test_the_original_stays_and_the_copy_is_frozen_too() -> None:
    copy = replace(RECORD, in_flight=3)
    assert (RECORD.in_flight, copy.in_flight) == (0, 3)
    with pytest.raises(FrozenInstanceError):
        copy.in_flight = 4  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        copy.no_such_field = 4  # type: ignore[attr-defined]


def test_a_copy_without_changes_is_another_equal_value() -> None:
    copy = replace(RECORD)
    assert copy == RECORD
    assert copy is not RECORD
    assert all(getattr(copy, f.name) is getattr(RECORD, f.name) for f in dataclasses.fields(RECORD))


@pytest.mark.parametrize("value", [RECORD, Known(1, 0.0, 0.0), Settings({})], ids=["plain", "generic", "derived"])
def test_a_field_that_is_not_there_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="spelled"):
        replace(value, spelled="wrong")  # type: ignore[type-var]


def test_a_value_with_derived_fields_derives_them_anew() -> None:
    rule = Rule("nap", frozenset({"llama"}), (IdleFor(60.0),), SLEEP_1)
    changed = replace(Settings({"llama": SPEC}), rules=(rule,))
    assert changed.rules_of == {"llama": (rule,)}
    assert replace(World(Settings({}), {}), settings=changed).settings is changed


def test_generic_values_and_values_with_a_dict_are_copied_too() -> None:
    @dataclass(frozen=True)
    class Loose:
        a: int
        b: list[int] = field(default_factory=list)

    @dataclass(frozen=True, slots=True)
    class Base:
        a: int

    @dataclass(frozen=True, slots=True)
    class Wider(Base):
        b: int = 2

    assert replace(Known("x", 1.0, 2.0), value="y") == Known("y", 1.0, 2.0)
    assert replace(Loose(1, [2]), a=3) == Loose(3, [2])
    assert replace(Wider(1), b=3) == Wider(1, 3)
