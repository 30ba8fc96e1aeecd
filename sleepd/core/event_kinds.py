"""Every kind of event there is: what it tells, and what stands in its `data` as evidence.

docs/events.md is made of this table, `GET /openapi.json` lists its kinds, and `[webhooks.NAME] kinds` takes no others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

CODE = {"code": "stable, for programs"}


@dataclass(frozen=True, slots=True)
class EventKind:
    """`data` beside `task` and `cause`, which every event of a model has while a task of it runs. `more`: which other
    keys may stand there."""

    meaning: str
    data: Mapping[str, str] = field(default_factory=dict)
    more: str = ""


CONDITIONS = "each condition by its name: what was found, and what was wanted"

KINDS: Mapping[str, EventKind] = {
    # decisions
    "rule": EventKind("a rule puts a model to sleep", {"rule": "its name", "action": "such as `sleep 1`"}, CONDITIONS),
    "would": EventKind(
        "a rule would, were it not for observe mode; once, until it lets go", {"rule": "its name"}, CONDITIONS
    ),
    "wake_ahead": EventKind(
        "what became of a wake ahead of demand",
        {"outcome": "`hit`: a request came; `miss`: none did; `late`: it came before", "seconds": "awake, or waking"},
    ),
    "alarm": EventKind("a rule goes in circles with a model: it rests", {"rule": "its name"}),
    "helpless": EventKind("RAM is short and nothing that the rule may do helps", {"rule": "its name"}),
    "stop_wanted": EventKind("a rule wants a model stopped", {"rule": "its name"}),
    "kept_awake": EventKind("a rule wants a model to sleep, and something keeps it awake"),
    "relief": EventKind(
        "what stopping a sleeper for host RAM gave back, as measured",
        {"rule": "its name", "gained_bytes": "host RAM available now, less before", "unit_bytes": "what its unit held"},
    ),
    "pressure": EventKind("a memory rule's threshold was crossed"),
    "pressure_over": EventKind("it let go again"),
    "victim": EventKind(
        "a model makes room for another, or for a job",
        {
            "victim": "which",
            "level": "how deeply",
            "felt_s": "how much longer somebody may wait for it",
            "reservation": "the job's, where it is for one",
        },
    ),
    "turn_over": EventKind(
        "a model takes no new requests, so that another has its turn when those it has are finished",
        {"next": "whose turn comes", "drain_s": "how long they may take"},
    ),
    "turn_goes_on": EventKind("it takes requests again: they did not end in time, or nobody waits for it any more"),
    "wake_refused": EventKind(
        "a wake that somebody asked for is refused",
        {"problem": "the kind of the refusal", "wanted": "what was wanted", "found": "what is there instead"},
    ),
    "held_up": EventKind("a sleep waits for direct requests that run and whose counters stand still for long"),
    "cut": EventKind("direct requests that a sleep waited for are ended"),
    "cooldown": EventKind(
        "after failures a model rests", {"failures": "how many in a row", "seconds": "how long it rests"}
    ),
    # transitions
    "state": EventKind(
        "a model is in another state",
        {
            "from": "its state before, finer than those of the API: docs/states.md",
            "to": "its state now",
            "fact": "what happened",
            "level": "0 awake, 1 or 2 asleep, null between",
        },
    ),
    "task_begun": EventKind(
        "a sleep or wake has begun, or a start, stop or restart of a unit",
        {"level": "the level slept at or woken from", "unit": "which unit"},
    ),
    "task_ended": EventKind("a sleep, wake or proof is over", {"seconds": "how long it took"}),
    "level2_proven": EventKind("an engine came back right from level 2: it may be chosen from now on"),
    "quiet_restart": EventKind("a server whose memory leaks is restarted in a quiet moment"),
    "restart_due": EventKind("a unit is restarted, because nothing else helps"),
    "restart_left": EventKind("only a restart helps, and sleepd may not, or not again"),
    "stopped_by_others": EventKind("a unit was stopped, and not by sleepd"),
    "unit_missing": EventKind("the state of a unit cannot be read"),
    "unit_found": EventKind("it can be read again"),
    "unit_unusable": EventKind("a unit cannot be started and stopped as configured"),
    "restarted": EventKind("a server was restarted"),
    "found_again": EventKind("a server that was lost answers again"),
    "direct": EventKind("a request past the gateway waits on a sleeper", {"connections": "how many"}),
    "foreign": EventKind("somebody else slept, woke or paused a server: hands off"),
    # what people did
    "hold": EventKind("a hold keeps a model awake", {"hold": "its id", "ttl_s": "how long", "who": "whose it is"}),
    "reserved": EventKind(
        "GPU memory is free for a job, and kept for it from now on",
        {"reservation": "its id", "who": "whose it is", "ttl_s": "how long", "aside": "models put to sleep for it"},
    ),
    "reservation_ended": EventKind("a reservation is over, or was not granted", {"reservation": "its id"}),
    "hold_ended": EventKind("a hold is over", {"hold": "its id", "left": "how many still hold the model"}),
    "pinned": EventKind("a model is pinned"),
    "unpinned": EventKind("a model is pinned no more"),
    "reset": EventKind("a model was reset, or taken back"),
    "reloaded": EventKind("the configuration was read anew"),
    "reload_failed": EventKind("it was not taken: the running settings stay", CODE),
    "left": EventKind(
        "sleepers were woken before the daemon ended", {"woken": "which", "left_asleep": "which were not"}
    ),
    # what went wrong
    "failure": EventKind("something failed", {**CODE, "step": "what was being done"}),
    "unanswered": EventKind("a call was not answered in time: what it did is found out", {"step": "which"}),
    "found_out": EventKind("what a call without an answer did"),
    "looked_again": EventKind("what showed that a model may serve grew old before its turn: it is looked at again"),
    "answer_wrong": EventKind("a model answers wrongly: it is quarantined or reloaded", {"found": "what it said"}),
    "answer_doubted": EventKind("an answer is another than the known one: it is asked again", {"names": "whose"}),
    "not_provable": EventKind("a model serves, and its answer cannot be compared"),
    "prefix_cache": EventKind("the prefix cache could not be reset"),
    "frees_little": EventKind(
        "the first sleep of a process gave back less than half of what it held",
        {"freed_bytes": "what it gave back", "held_bytes": "what was held before it"},
    ),
    "restart_wanted": EventKind(
        "a restart in a quiet moment would do a server good",
        {
            "gpu": "its uuid",
            "asleep_bytes": "what is left on it while asleep",
            "grown_bytes": "how much more that is than after the first sleep",
            "sleeps": "how many there were since",
        },
    ),
    "direct_missing": EventKind("direct connections to a model cannot be seen"),
    "gpus_missing": EventKind("GPU memory cannot be read"),
    "host_missing": EventKind("host RAM cannot be read"),
    "limits_unseen": EventKind("memory limits of units cannot be seen on this host"),
    "not_recordable": EventKind("a turn could not be recorded, so that nothing of it was done"),
    "history": EventKind("history is not kept, is lost, or is kept again", CODE),
    "webhook": EventKind(
        "a webhook does not get through, lost events, or gets through again",
        {**CODE, "webhook": "its name", "lost": "how many events it lost since the last word"},
    ),
    "tracing": EventKind("traces do not get through; every ten minutes at most", CODE),
}
