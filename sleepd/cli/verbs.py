"""What sleepctl understands, as one table: the parser, the completions and docs/sleepctl.md are made of it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Option:
    """One option. `kind` is "flag", "text", "duration", "long duration", "size", "list", "level", or "file", whose
    value may be left out and is "-" then; `metavar` shows what it takes."""

    __slots__ = ("default", "flag", "help", "kind", "metavar")

    def __init__(
        self, flag: str, text: str, kind: str = "flag", metavar: str = "", default: str | float | None = None
    ) -> None:
        self.flag, self.help, self.kind, self.metavar, self.default = flag, text, kind, metavar, default

    @property
    def name(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")


class Verb:
    """One command. `models`: "" none, "filter" any number of MODELs, "some" MODELs or --all, "one" MODEL and a CMD,
    "job" a CMD alone.

    `command` names the function that does it, imported only then.
    """

    __slots__ = ("command", "help", "models", "name", "options", "tail")

    def __init__(
        self,
        name: str,
        text: str,
        command: str,
        models: str = "",
        options: Sequence[Option] = (),
        tail: str = "",
    ) -> None:
        self.name, self.help, self.command = name, text, command
        self.models, self.options, self.tail = models, tuple(options), tail


SHELLS = ("bash", "zsh", "fish")

COMMON = (
    Option("--socket", "default $SLEEPD_SOCKET, else /run/sleepd/sleepd.sock", "text", "PATH"),
    Option("--json", "print JSON, one line per answer"),
)
ALL = Option("--all", "every model")
NO_WAIT = Option("--no-wait", "return once the task is accepted")
TIMEOUT = Option("--timeout", 'such as "90s"; default 10m', "duration", "D", 600.0)
FORCE = Option("--force", "needs the role admin")

VERBS = (
    Verb("status", "what every model does, and why", "looks:show_status", "filter"),
    Verb("top", "the same on a screen that stays, with keys to act on it", "top.show:run_top"),
    Verb(
        *("wake", "wake models and wait until they are awake", "wishes:wake", "some"),
        (ALL, Option("--dry-run", "do nothing, show what would be done"), NO_WAIT, TIMEOUT, FORCE),
    ),
    Verb(
        *("sleep", "put models to sleep and wait until they are", "wishes:sleep", "some"),
        (
            ALL,
            Option("--level", "1 keeps the weights in RAM, 2 discards them; default 1", "level", "N", 1),
            Option("--drain", "how long a busy model may finish", "duration", "D", 0.0),
            Option("--via-wake", "wake one that sleeps less deeply first"),
            *(NO_WAIT, TIMEOUT, FORCE),
        ),
    ),
    Verb(
        *("stop", "stop the units of models and wait until they are; only a person starts them again", "wishes:stop"),
        *("some", (ALL, NO_WAIT, TIMEOUT)),
    ),
    Verb(
        *("start", "start the units of models and wait until they serve", "wishes:start", "some"),
        (ALL, NO_WAIT, TIMEOUT),
    ),
    Verb("reset", "take failed models back into service", "wishes:reset", "some", (ALL,)),
    Verb("pin", "let nothing but force put models to sleep", "wishes:pin", "some", (ALL,)),
    Verb("unpin", "let rules put models to sleep again", "wishes:unpin", "some", (ALL,)),
    Verb(
        *("hold", "keep a model awake: while CMD runs, or for a time", "hold:hold", "one"),
        (
            Option("--ttl", "for so long, instead of while CMD runs", "long duration", "D"),
            Option("--reason", "for people who wonder why it is awake", "text", "TEXT", ""),
            Option("--id", "name the hold; the same again renews it", "text", "ID"),
            Option("--release", "let go of this hold", "text", "ID"),
            *(NO_WAIT, TIMEOUT),
        ),
        tail="-- CMD...",
    ),
    Verb(
        *(
            "reserve",
            "GPU memory for a job: while CMD runs, until interrupted, or for a time",
            "reserve:reserve",
        ),
        "job",
        (
            Option("--gpu", "indices or UUIDs, separated by commas: all of them or nothing", "list", "N[,N]..."),
            Option("--vram", 'how much on each, such as "40GiB"', "size", "SIZE"),
            Option("--ttl", "for so long, instead of while CMD runs", "long duration", "D"),
            Option("--reason", "for people who wonder who has the room", "text", "TEXT", ""),
            Option("--id", "name the reservation; the same again renews it", "text", "ID"),
            Option("--end", "give this reservation back", "text", "ID"),
            *(NO_WAIT, TIMEOUT),
        ),
        tail="-- CMD...",
    ),
    Verb("reservations", "who keeps GPU memory for a job", "looks:show_reservations"),
    Verb("holds", "who keeps what awake", "looks:show_holds", "filter"),
    Verb(
        *("is-awake", "quiet: exit 0 where all are awake, 1 where one is not", "looks:is_awake", "some"),
        (ALL,),
    ),
    Verb(
        *("explain", "every rule of a model: what holds, what is missing, when it fires", "looks:show_why", "some"),
        (ALL,),
    ),
    Verb(
        *("events", "what happened, and what happens from now on", "looks:show_events", "filter"),
        (
            Option("--since", "only what came after this event", "text", "ID"),
            Option("--no-follow", "end after what is on record"),
        ),
    ),
    Verb(
        *("history", "what models did, and why", "history:show_history", "filter"),
        (
            Option("--since", "how far back; default 1d", "long duration", "D", 86_400.0),
            Option("--trace", "write requests as a trace in CSV, to FILE or stdout", "file", "[FILE]"),
        ),
    ),
    Verb(
        *("report", "GPU memory given back, wakes and waits, by model and by rule", "history:show_report", "filter"),
        (
            Option("--since", "how far back; default 7d", "long duration", "D", 604_800.0),
            Option("--html", "write it to FILE as a page with charts that stands alone", "text", "FILE"),
        ),
    ),
    Verb(
        *("ui-token", "a token that lets a browser in at the page, once, as you", "tokens:show_token"),
        options=(
            Option("--role", "viewer, operator or admin; default as you, but not admin", "text", "ROLE", ""),
            Option("--ttl", "how long it may be used; default 5m", "duration", "D", 300.0),
        ),
    ),
    Verb(
        *(
            "doctor",
            "what is wrong with this host, the daemon and every vLLM server, and what to do",
            "doctor:run_doctor",
        ),
        options=(Option("--try", "put MODEL to sleep and wake it again: is its memory freed?", "text", "MODEL", ""),),
    ),
    Verb("reload", "let sleepd read its configuration anew", "wishes:reload"),
    Verb(
        *("completion", "a script for the completion of your shell", "completion:show_completion"),
        tail="|".join((*SHELLS, "models", "holds", "reservations")),
    ),
)
