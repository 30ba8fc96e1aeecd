"""What the socket API answers, as types: the daemon builds these, `GET /openapi.json` and docs/api.md are made of them,
and the Python client promises them.

The text below a field is its description. Units stand in the names; times are RFC 3339 UTC; a value nobody knows is
null, never 0.
"""

from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypeAlias

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from sleepd.core.event_kinds import KINDS
from sleepd.core.model import CauseKind, Mode
from sleepd.core.task import Phase, TaskKind

if TYPE_CHECKING:
    EventKindName: TypeAlias = str
else:  # the names are a table, which no type checker reads
    EventKindName = Literal[tuple(KINDS)]

Time: TypeAlias = str
Level: TypeAlias = Literal[0, 1, 2] | None
State: TypeAlias = Literal[
    "unknown",
    "awake",
    "draining",
    "falling_asleep",
    "asleep",
    "waking",
    "starting",
    "stopping",
    "stopped",
    "lost",
    "failed",
]


@with_config(ConfigDict(use_attribute_docstrings=True, extra="forbid"))
class Shape(TypedDict):
    """An object of the API: every field is there, and no other."""


class ModelGpu(Shape):
    """One GPU as one model uses it."""

    uuid: str
    """as NVML names it; as configured where no GPU matches"""
    index: int | None
    """nvidia-smi's number"""
    awake_bytes: int | None
    """what its processes hold while it is awake"""
    asleep_bytes: int | None
    """what stays while it is asleep"""
    need_bytes: int | None
    """what a wake takes: learned, else declared"""


class LastWake(Shape):
    """The last wake that ended."""

    seconds: float
    """how long it took"""
    action: str
    """what was done"""
    ok: bool
    """whether the model was awake afterwards"""


class Next(Shape):
    """What happens if nobody asks for anything."""

    rule: str
    """whose doing it is: a rule's name, or "its turn" where models take turns"""
    action: str
    """such as "sleep 1" """
    in_s: float
    """seconds from now; 0: as soon as it can"""


class Failure(Shape):
    """Why a model is not usable."""

    code: str
    """stable, for programs"""
    detail: str
    """what was seen, as a sentence"""


class Model(Shape):
    """One managed vLLM server."""

    name: str
    """as configured"""
    state: State
    """treat others as `unknown`"""
    level: Level
    """0 awake, 1 or 2 asleep, null between"""
    since: Time | None
    """since when it is in this state"""
    url: str
    """as configured"""
    unit: str | None
    """its systemd unit, where one is configured"""
    version: str | None
    """as the server tells it"""
    mode: Mode
    """`observe`: rules are evaluated and told, not carried out"""
    gpus: list[ModelGpu]
    """where it is, or is to be"""
    host_ram_bytes: int | None
    """its level 1 backup"""
    idle_s: float | None
    """how long nobody used it; 0 while busy"""
    running: int | None
    """requests vLLM works on, by its own count"""
    waiting: int | None
    """requests vLLM has queued, by its own count"""
    in_flight: int
    """requests through sleepd"""
    queued: int
    """callers waiting for it to wake"""
    holds: list[str]
    """ids of the holds that keep it awake"""
    pinned: bool
    """never put to sleep except by force"""
    priority: int
    """higher is put to sleep later"""
    last_wake: LastWake | None
    """the last wake that ended"""
    eta_s: float | None
    """how long a wake would take from now"""
    hold_down_s: float
    """how long it is still left alone after somebody else touched it"""
    reason: str
    """one sentence: why it is as it is"""
    next: Next | None
    """what happens if nobody asks for anything; null: nothing, or nobody can tell when"""
    failure: Failure | None
    """why it is not usable, where it is not"""
    restart_wanted: str | None
    """why a restart in a quiet moment would do it good, though nothing failed"""
    requests_finished: int
    """since the daemon began, by the server's own count, direct ones too, our questions left out; it only grows"""


class Gpu(Shape):
    """One GPU, or one MIG device of a GPU that is divided."""

    uuid: str
    """as NVML names it"""
    index: int
    """nvidia-smi's number; of a MIG device 1000 × (that of its GPU + 1) + its number there"""
    mig_of: int | None
    """the number of the GPU that it is a MIG device of"""
    total_bytes: int
    """its memory"""
    free_bytes: int
    """what nobody uses now"""
    margin_bytes: int
    """`[gpu] margin`: never given out"""
    reserved_bytes: int
    """what of it is kept free for jobs and not taken by them yet: see Reservation"""
    models: list[str]
    """whose processes hold memory on it"""


class Host(Shape):
    """The host's RAM."""

    total_bytes: int | None
    """its memory"""
    available_bytes: int | None
    """MemAvailable of /proc/meminfo"""
    reserve_bytes: int
    """`[host] reserve`: no backup may eat into it"""
    pressure_some_avg10: float | None
    """share of the last ten seconds in which something waited for memory (PSI), 0 to 1"""


class Cause(Shape):
    """Why a task exists."""

    kind: CauseKind
    """`victim`: it makes room for another"""
    who: str
    """the rule, the caller, the model that needs the room"""


class Task(Shape):
    """One sleep, wake or proof, running or ended."""

    id: int
    """rising, never used twice"""
    model: str
    """whose task it is"""
    kind: TaskKind
    """what is done"""
    level: int
    """the level slept at or woken from; 0 where neither is known"""
    cause: Cause
    """why"""
    phase: Phase
    """`undo`: half-done work is put back; `fence`: it is found out what an unanswered call did"""
    step: str | None
    """what it is doing; null once it is over"""
    steps_done: int
    """steps behind it"""
    steps: int
    """steps in all"""
    attempt: int
    """0 for the first"""
    started: Time
    """when it began"""
    running_s: float
    """how long it takes, or took"""
    parent: int | None
    """the task that it makes room for"""
    victim: str | None
    """the model that is put to sleep for it just now"""
    ended: Time | None
    """when it came to its end"""
    outcome: str | None
    """what became of it, as a sentence"""
    done: bool | None
    """whether it achieved what it was begun for; null while it runs"""


class Hold(Shape):
    """Keeps a model awake while somebody needs it."""

    id: str
    """chosen by the client"""
    model: str
    """which model"""
    uid: int
    """whose hold it is: the user's number"""
    who: str
    """and name"""
    reason: str
    """as given"""
    since: Time
    """when it was first taken"""
    ttl_s: float | None
    """as given; null with a stream"""
    until: Time | None
    """when it lets go by itself; null while its stream is open"""
    attached: bool
    """whether its stream is open"""


class HoldBeat(Shape):
    """A line of a hold's stream: the daemon and the hold are there."""

    beat: Time
    """now"""


class HoldEnd(Shape):
    """The last line of a hold's stream: the hold is over, and need not be asked for again."""

    ended: str
    """why"""


class Event(Shape):
    """One thing that happened. On the wire: the data of a server-sent event of the same id."""

    id: str
    """`<epoch>-<n>`; the epoch changes with every start of the daemon"""
    time: Time
    """when"""
    kind: EventKindName
    """stable, for programs; later versions may have more"""
    model: str | None
    """whose event it is"""
    gpus: list[str]
    """uuids of the GPUs that the model is on"""
    task: int | None
    """the task it belongs to"""
    cause: Cause | None
    """why that task exists"""
    text: str
    """one sentence"""
    data: dict[str, Any]
    """evidence: what was wanted, what was seen; docs/events.md has the keys of each kind"""


class Gap(Shape):
    """Events were lost: the data of a server-sent event of the type `gap`."""

    after: str | None
    """the id that was asked for"""
    first: str | None
    """the id of the next event on record"""


class Problem(Shape):
    """A refusal (RFC 9457)."""

    kind: str
    """stable, for programs: see Problems"""
    title: str
    """the kind in words"""
    status: int
    """the HTTP status"""
    detail: str
    """what is so"""
    wanted: NotRequired[str]
    """what was asked or would have been right"""
    found: NotRequired[str]
    """what is there instead"""
    hint: NotRequired[str]
    """what to do"""
    errors: NotRequired[list[str]]
    """every error of a configuration that was not taken"""
