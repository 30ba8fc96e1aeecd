"""Every metric family of /metrics as one table: the page, docs/metrics.md and the tests of names are made of it.

Names follow https://prometheus.io/docs/practices/naming: base units, `_total` for counters. They are part of the API:
one that changes breaks dashboards and alerts of others.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One family. `buckets`: upper bounds of a histogram, without the last one, which is infinite."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    section: str
    buckets: tuple[float, ...] = ()


TRANSITION_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""From a small model's wake to a first level 1 sleep of a large one."""
WAIT_S = (0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
TURN_S = (1.0, 5.0, 10.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1800.0, 3600.0)
COST_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0)
LOOK_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 5.0)


_Row = tuple[str, Kind, str, str] | tuple[str, Kind, str, str, tuple[float, ...]]


def _in(section: str, *rows: _Row) -> list[Family]:
    return [
        Family(f"sleepd_{row[0]}", row[1], tuple(row[2].split()), row[3], section, row[4] if len(row) > 4 else ())
        for row in rows
    ]


_G, _C, _H = Kind.GAUGE, Kind.COUNTER, Kind.HISTOGRAM

FAMILIES: tuple[Family, ...] = (
    *_in(
        "Models",
        ("model_state", _G, "model state", "1 for the state the model is in, 0 for every other one"),
        ("model_level", _G, "model", "0 awake, 1 or 2 asleep; none where that is not known"),
        ("model_state_changed_timestamp_seconds", _G, "model", "When the model came into its state"),
        ("model_up", _G, "model", "1 where the last polls of its server brought a reading, 0 where they did not"),
        ("model_info", _G, "model version unit mode", "Always 1: what the model's server is"),
        ("model_idle_seconds", _G, "model", "How long nobody has used the model; 0 while it is in use"),
        ("model_running_requests", _G, "model", "Requests that its server reports as running"),
        ("model_waiting_requests", _G, "model", "Requests that its server reports as waiting"),
        ("model_callers", _G, "model", "Callers of the socket API that wait for the model"),
        ("model_holds", _G, "model", "Holds that keep the model awake"),
        ("model_pinned", _G, "model", "1 where nothing but force puts the model to sleep"),
        ("model_failures_in_a_row", _G, "model", "Tasks of the model that failed since the last one that did not"),
        ("model_restart_wanted", _G, "model", "1 where a restart in a quiet moment would give GPU memory back"),
    ),
    *_in(
        "Transitions and proofs",
        (
            *("transitions_total", _C, "model kind level cause outcome"),
            "Tasks that came to their end; `done`, `failed`, or `dropped` because something else mattered more",
        ),
        (
            *("transition_duration_seconds", _H, "model kind level"),
            "From a task's first step to the proof of its last, of those that were done",
            TRANSITION_S,
        ),
        ("transitions_running", _G, "kind", "Tasks in progress"),
        ("steps_total", _C, "step outcome", "Steps of tasks, by how they ended"),
        (
            "proofs_total",
            _C,
            "model outcome",
            "Steps whose effect was to be seen: `proven`, `unproven`, `not_provable`",
        ),
        ("answer_mismatches_total", _C, "model", "Known answers that came out wrong, or were doubted, after a wake"),
        ("failures_total", _C, "model code", "Failures that were told, by their code"),
        ("server_restarts_total", _C, "model", "Times another process was found behind the model's address"),
    ),
    *_in(
        "Requests",
        (
            *("gateway_requests_total", _C, "model outcome"),
            "Requests at the gateway: class of the server's status, code of a refusal, `broken` or `client_left`; "
            "`model` is empty where none was found",
        ),
        ("gateway_in_flight_requests", _G, "model", "Requests that the gateway has let in and that are not over"),
        ("gateway_queued_requests", _G, "model", "Requests that the gateway holds until the model is awake"),
        ("gateway_wait_seconds", _H, "model outcome", "How long requests were held, and what became of them", WAIT_S),
        (
            "wishes_total",
            _C,
            "outcome",
            "Answers to wishes, the gateway's too: `done` …, or the kind of the refusal",
        ),
        ("wish_wait_seconds", _H, "", "How long who made a wish waited for the answer", WAIT_S),
    ),
    *_in(
        "Turns",
        (
            *("model_turns_total", _C, "model outcome"),
            "Turns that ended for another model: `idle` it was not in use, `finished` its gate shut and its requests "
            "ended; and gates that opened again: `kept` they did not end within `drain`, `in_vain` nobody waited on",
        ),
        (
            *("model_turn_seconds", _H, "model"),
            "How long the model had been awake when it was put to sleep for another one",
            TURN_S,
        ),
        (
            *("model_turn_wait_seconds", _H, "model"),
            "How long the model was waited for, where others' turns came first, until its own wake was begun",
            TURN_S,
        ),
    ),
    *_in(
        "Memory",
        ("gpu_info", _G, "gpu uuid", "Always 1: which GPU an index stands for"),
        ("gpu_total_bytes", _G, "gpu", "Memory of the GPU"),
        ("gpu_free_bytes", _G, "gpu", "Memory of the GPU that nobody holds"),
        ("gpu_margin_bytes", _G, "gpu", "What of it is never given out"),
        ("gpu_reserved_bytes", _G, "gpu", "What of it wakes under way and reservations are still to take"),
        ("model_vram_awake_bytes", _G, "model gpu", "What the model holds awake, as it was measured"),
        ("model_vram_asleep_bytes", _G, "model gpu", "What the model holds asleep, as it was measured last"),
        ("model_vram_residual_bytes", _G, "model gpu level", "What its last sleep of this level left behind"),
        ("model_vram_need_bytes", _G, "model gpu", "What a wake takes: learned, else declared"),
        ("host_total_bytes", _G, "", "RAM of the host"),
        ("host_available_bytes", _G, "", "RAM that can be had without swapping (MemAvailable)"),
        ("host_reserve_bytes", _G, "", "RAM that a level 1 backup may never eat into"),
        ("host_pressure_ratio", _G, "", "Share of time in which something waited for RAM (PSI some avg10)"),
        ("host_backups_bytes", _G, "", "RAM that all models' backups were seen to pin"),
        ("model_host_backup_bytes", _G, "model", "RAM that backups of the running process were seen to pin"),
        (
            *("saved_gpu_byte_seconds_total", _C, "model gpu"),
            "GPU memory given back by sleeping, times how long; divided by the time passed: bytes saved on average",
        ),
    ),
    *_in(
        "Rules",
        ("rule_actions_total", _C, "rule model", "What rules began with models"),
        (
            "rule_would_actions_total",
            _C,
            "rule model",
            "What rules would have begun in observe mode",
        ),
        (
            "wakes_ahead_total",
            _C,
            "model outcome",
            "Wakes ahead of demand: `hit` where a request came, `miss` where none did, `late` where it came before",
        ),
        ("rule_alarms_total", _C, "rule model", "Rules that go in circles with a model and were stopped from it"),
    ),
    *_in(
        "The daemon",
        ("build_info", _G, "version python", "Always 1: what runs here"),
        ("start_timestamp_seconds", _G, "", "When the daemon started"),
        ("ready", _G, "", "1 once every model answered or was found unreachable"),
        ("config_last_reload_successful", _G, "", "0 where the files on disk were refused and older settings hold"),
        ("reading_up", _G, "source", "1 where GPU memory and host RAM can be read, 0 where not"),
        ("events_total", _C, "kind", "Events of /v1/events, by kind"),
        ("turn_duration_seconds", _H, "", "How long the daemon took to decide, each turn", COST_S),
        ("commit_duration_seconds", _H, "", "How long it took to make records durable", LOOK_S),
        ("commit_failures_total", _C, "", "Times records could not be made durable"),
        ("poll_duration_seconds", _H, "source outcome", "How long polls of servers, GPUs and host RAM took", LOOK_S),
    ),
)

BY_NAME = {family.name: family for family in FAMILIES}
