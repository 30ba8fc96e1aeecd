"""What whole answers of the socket API are made of: shapes, put together per route."""

from typing import Literal, NotRequired

from sleepd.core.model import Mode
from sleepd.wire.plans import WakePlan
from sleepd.wire.shapes import Gpu, Hold, Host, Level, Model, Next, Shape, State, Task, Time


class Status(Shape):
    """Everything there is to see, of one moment."""

    version: str
    """of sleepd"""
    mode: Mode
    """`[daemon] mode`"""
    since: Time
    """when the daemon started"""
    now: Time
    """the moment that all this is of, by its clock"""
    models: list[Model]
    """by name"""
    gpus: list[Gpu]
    """by index"""
    host: Host
    """its RAM"""
    tasks: list[Task]
    """those running now"""
    notes: list[str]
    """readings that are missing, and why"""


class Models(Shape):
    """Every model."""

    models: list[Model]
    """by name"""


class Condition(Shape):
    """One condition of a rule, for one model."""

    name: str
    """its key in the configuration"""
    wanted: str
    """what the rule asks"""
    found: str
    """what is so"""
    holds: bool | None
    """null: the reading is missing"""
    in_s: float | None
    """when time alone would make it hold"""


class Rule(Shape):
    """One rule, for one model."""

    rule: str
    """its name"""
    action: str
    """such as "sleep 1" """
    kind: str
    """its class in the precedence: pressure, idle, wake …"""
    holds: bool
    """whether all its conditions do"""
    missing: str
    """what keeps it from acting; empty where it acts"""
    due_in_s: float | None
    """when time alone would make it hold; 0: now"""
    conditions: list[Condition]
    """all of them must hold"""


class Explanation(Shape):
    """Why a model is as it is, and what comes next."""

    model: str
    """its name"""
    state: State
    """as in Model"""
    level: Level
    """as in Model"""
    reason: str
    """one sentence: why it is as it is"""
    verdict: str
    """what all rules together come to"""
    protections: list[str]
    """what keeps it from being put to sleep"""
    rules: list[Rule]
    """every rule that applies to it"""
    next: Next | None
    """what happens if nobody asks for anything; null: nothing, or nobody can tell when"""


class Outcome(Shape):
    """What became of a wish."""

    model: Model
    """as it is now"""
    task: int | None
    """the task that did it; null where nothing had to be done"""
    waited_s: float
    """how long the caller waited"""
    plan: NotRequired[WakePlan]
    """only with `dry_run`"""


class Tasks(Shape):
    """What is being done and what was done."""

    tasks: list[Task]
    """those running, then the last 1,000 that ended, the newest first"""


class Holds(Shape):
    """Every hold."""

    holds: list[Hold]
    """by model, the oldest first"""


class Released(Shape):
    """A hold that is let go of, or a reservation that is given back."""

    id: str
    """which"""
    released: bool
    """false: there was none of this id"""


class UiToken(Shape):
    """Lets somebody in at the page, once."""

    token: str
    """what the page asks for: behind `#token=` of its address, or typed"""
    role: Literal["viewer", "caller", "operator", "admin"]
    """what its session may do"""
    until: Time
    """when it is no good any more"""
    pages: list[str]
    """addresses of the page, as far as the daemon knows"""


class Finding(Shape):
    """What one check of `sleepctl doctor` came to."""

    check: str
    """its stable id, of docs/doctor.md"""
    verdict: Literal["ok", "warn", "fail"]
    """`fail`: something that is wanted cannot work, or is not safe"""
    about: str
    """the model that was looked at; empty: the host or the daemon"""
    found: str
    """what is so"""
    remedy: str
    """what to do; empty where nothing is wrong"""


class Examination(Shape):
    """What the daemon sees of itself, its host and its models."""

    findings: list[Finding]
    """in the order of docs/doctor.md"""


class Reloaded(Shape):
    """A reload that took effect."""

    changed: list[str]
    """a line for each change; empty where there was none"""


class Health(Shape):
    """The daemon answers."""

    ok: bool
    """true"""


class Readiness(Shape):
    """Whether every model answered or was found unreachable."""

    ready: bool
    """whether none is waited for"""
    waiting_for: list[str]
    """models that were not looked at yet"""
