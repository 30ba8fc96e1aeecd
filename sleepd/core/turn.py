"""The outcome of one step of the world."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sleepd.core.commands import Command
from sleepd.core.records import Record
from sleepd.core.world import World


@dataclass(frozen=True, slots=True)
class Note:
    """One line of history for people and event streams. `kind` is stable, `text` one sentence, `data` evidence."""

    kind: str
    model: str
    text: str
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Turn:
    """The outcome of one step: the next world, what must be committed first, then what is to be done.

    `shut` names the models whose gate closes inside the turn, before the commit: the safe direction.
    """

    world: World
    records: tuple[Record, ...] = ()
    commands: tuple[Command, ...] = ()
    notes: tuple[Note, ...] = ()
    shut: tuple[str, ...] = ()
