"""Everything that `sleepctl top` knows and shows, as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypeAlias

    from sleepd.wire.answers import Status

    Verb: TypeAlias = Literal["wake", "sleep", "stop", "start", "reset", "pin", "unpin", "hold", "release"]
    PaneKind: TypeAlias = Literal["help", "events", "reservations", "explain", "plan"]
    Sample: TypeAlias = tuple[float, int]

EVENTS_KEPT = 200


@dataclass(frozen=True, slots=True)
class Away:
    """The daemon could not be asked since then; `why` is the last failure in words."""

    since_wall_s: float
    why: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks of the daemon with a key."""

    verb: Verb
    model: str
    level: int = 1
    force: bool = False
    drain_s: float = 0.0
    ttl_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask for what a pane shows."""

    kind: PaneKind
    model: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing more is wanted."""


@dataclass(frozen=True, slots=True)
class Browse:
    """Keys move in the table and act on the model that is chosen."""


@dataclass(frozen=True, slots=True)
class Typing:
    """Keys are text: a filter, which acts at once, or how long a hold is to last."""

    what: Literal["filter", "hold"]
    text: str
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class SleepMenu:
    """The next key says how `model` is to sleep."""

    model: str


@dataclass(frozen=True, slots=True)
class Confirm:
    """The next key says whether `wish` is meant."""

    question: str
    wish: Wish


@dataclass(frozen=True, slots=True)
class Pane:
    """Something to read in place of the table. `body` None: it was asked for and is not there yet."""

    kind: PaneKind
    model: str = ""
    body: Any = None
    first: int = 0
    """The line that stands at the top."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What became of the last wish, or the refusal as the API words it; until the next key."""

    lines: tuple[str, ...]
    refused: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """`asked_by`: whose holds this program takes and lets go of."""

    unicode: bool = True
    asked_by: str = "top"
    now_wall_s: float = 0.0
    status: Status | None = None
    status_wall_s: float = 0.0
    """When the status came."""
    away: Away | None = None
    events: tuple[Mapping[str, Any], ...] = ()
    """The newest last."""
    finished: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)
    """Of each model: how many requests were finished at moments of the last minute."""
    chosen: str = ""
    sort: str = "name"
    turned: bool = False
    filter: str = ""
    mode: Browse | Typing | SleepMenu | Confirm | Pane = Browse()
    notice: Notice | None = None
