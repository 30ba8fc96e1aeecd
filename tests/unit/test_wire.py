"""Bodies of the API: every field of the contract, units, and null where nobody knows."""

import json
from dataclasses import replace

import pytest
from api_rig import GPU, MONO_S, FakeDaemon

from sleepd import wire
from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.footprint import Footprint
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Known, Missing, MissingReason, Mode
from sleepd.core.seen import HostSeen
from sleepd.core.units import GIB
from sleepd.core.world import World

MODEL_FIELDS = [
    *("name", "state", "level", "since", "url", "unit", "version", "mode", "gpus", "host_ram_bytes", "idle_s"),
    *("running", "waiting", "in_flight", "queued", "holds", "pinned", "priority", "last_wake", "eta_s", "hold_down_s"),
    *("reason", "next", "failure", "restart_wanted", "requests_finished"),
]


def changed(world: World, name: str, **fields: object) -> World:
    return replace(world, models={**world.models, name: replace(world.models[name], **fields)})  # type: ignore[arg-type]


def test_a_model_has_the_fields_of_the_contract_in_its_order() -> None:
    daemon = FakeDaemon()
    body = wire.model_body(daemon, "qwen3-32b")
    assert list(body) == MODEL_FIELDS
    assert body["gpus"] == [
        {"uuid": GPU, "index": 0, "awake_bytes": 60 * GIB, "asleep_bytes": 2 * GIB, "need_bytes": 58 * GIB}
    ]
    assert (body["state"], body["level"], body["since"]) == ("awake", 0, "2025-12-31T23:55:50.000Z")
    assert (body["idle_s"], body["host_ram_bytes"], body["version"]) == (250.0, 50 * GIB, "0.28.1")
    assert body["next"] == {"rule": "nap", "action": "sleep 1", "in_s": 50.0}
    assert (body["failure"], body["last_wake"], body["eta_s"], body["queued"], body["holds"]) == (
        None,
        None,
        None,
        0,
        [],
    )


def test_waiting_failed_and_sleeping_models_say_so() -> None:
    daemon = FakeDaemon()
    assert wire.model_body(daemon, "chat")["queued"] == 1
    assert wire.model_body(daemon, "gpt-oss-120b")["failure"]["code"] == "wake_refused"
    asleep = wire.model_body(daemon, "embed")
    assert (asleep["state"], asleep["level"], asleep["eta_s"]) == ("asleep", 1, 4.2)
    assert asleep["last_wake"] == {"seconds": 4.2, "action": "wake 1", "ok": True}


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_public_name_and_body(state: State) -> None:
    public = {"unknown", "awake", "draining", "falling_asleep", "asleep", "waking"}
    public |= {"starting", "stopping", "stopped", "lost", "failed"}
    daemon = FakeDaemon()
    daemon.world = changed(daemon.world, "chat", life=Life(state, Weights.LOADED))
    body = wire.model_body(daemon, "chat")
    assert body["state"] in public
    assert body["level"] in (0, 1, 2, None)


def test_what_was_never_read_is_null_and_not_zero() -> None:
    daemon = FakeDaemon()
    unread = Missing(MissingReason.NOT_YET)
    world = changed(
        daemon.world, "embed", seen=unread, facts=None, placed_on=(), footprint=Footprint(), since_wall_s=0.0
    )
    daemon.world = replace(world, gpus=Missing(MissingReason.UNREADABLE, "no driver"), host=unread)
    body = wire.model_body(daemon, "embed")
    assert [body[key] for key in ("idle_s", "running", "waiting", "version", "since", "host_ram_bytes")] == [None] * 6
    assert body["gpus"] == []
    status = wire.status_body(daemon)
    assert status["gpus"] == []
    assert status["host"]["available_bytes"] is None
    assert status["notes"] == ["the GPUs: unreadable (no driver)", "host memory: not read yet"]
    assert wire.unread_models(daemon.world) == ["embed"]


def test_idle_is_zero_while_a_request_runs() -> None:
    daemon = FakeDaemon()
    daemon.world = changed(daemon.world, "qwen3-32b", in_flight=1)
    assert wire.model_body(daemon, "qwen3-32b")["idle_s"] == 0.0


def test_bytes_of_a_new_model_are_measured_while_it_is_awake_and_needed_as_declared() -> None:
    daemon = FakeDaemon()
    spec = replace(daemon.world.models["qwen3-32b"].spec, vram_bytes=40 * GIB, gpus=("0",))
    daemon.world = changed(daemon.world, "qwen3-32b", footprint=Footprint(), spec=spec, placed_on=())
    (gpu,) = wire.model_body(daemon, "qwen3-32b")["gpus"]
    assert gpu == {"uuid": GPU, "index": 0, "awake_bytes": 60 * GIB, "asleep_bytes": None, "need_bytes": 40 * GIB}


def test_status_is_whole_and_is_json() -> None:
    body = wire.status_body(FakeDaemon())
    assert list(body) == ["version", "mode", "since", "now", "models", "gpus", "host", "tasks", "notes"]
    assert [model["name"] for model in body["models"]] == ["chat", "embed", "gpt-oss-120b", "qwen3-32b"]
    (gpu,) = body["gpus"]
    assert (gpu["free_bytes"], gpu["margin_bytes"], len(gpu["models"])) == (14 * GIB, GIB, 4)
    assert body["host"]["reserve_bytes"] == 8 * GIB
    (task,) = body["tasks"]
    assert (task["id"], task["step"], task["steps_done"], task["steps"]) == (7, "compare the known answer", 1, 2)
    assert (task["running_s"], task["started"]) == (3.0, "2025-12-31T23:59:57.000Z")
    assert json.loads(json.dumps(body)) == body


def answer(kind: AnswerKind, **fields: object) -> tuple[int, wire.Json]:
    return wire.answer_body(FakeDaemon(), "chat", Answer(1, kind, **fields))  # type: ignore[arg-type]


def test_answers_are_status_and_body() -> None:
    status, body = answer(AnswerKind.DONE, task_id=7, waited_s=1.23456)
    assert (status, body["task"], body["waited_s"], body["model"]["name"]) == (200, 7, 1.235, "chat")
    assert answer(AnswerKind.ACCEPTED, task_id=7)[0] == 202
    status, body = answer(AnswerKind.TIMED_OUT, waited_s=5.0)
    assert (status, body["kind"]) == (504, "timeout")
    assert "the task goes on" in body["detail"]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        *((kind, 409) for kind in ["no_room", "blind", "reserved", "group_full", "stopped", "busy", "held", "pinned"]),
        *(("level_unsafe", 409), ("needs_wake", 409), ("failed", 503), ("engine_failed", 503)),
        *(("not_recordable", 503), ("timeout", 504), ("unknown_model", 404), ("never heard of", 503)),
    ],
)
def test_refusals_have_the_status_of_the_contract(kind: str, status: int) -> None:
    found, body = answer(AnswerKind.REFUSED, problem=kind, detail="d", wanted="w", found="f", hint="h")
    assert (found, body["status"]) == (status, status)
    assert body["kind"] == (kind if kind in wire.PROBLEMS else "failed")
    assert (body["detail"], body["wanted"], body["found"], body["hint"]) == ("d", "w", "f", "h")


def test_an_answer_about_a_model_that_was_removed_meanwhile_is_a_problem() -> None:
    status, body = wire.answer_body(FakeDaemon(), "gone", Answer(1, AnswerKind.DONE))
    assert (status, body["kind"]) == (404, "unknown_model")


def test_a_condition_without_a_reading_neither_holds_nor_fails() -> None:
    daemon = FakeDaemon()
    body = wire.explain_body(daemon.explain("chat"))
    idle, host = body["rules"][0]["conditions"]
    assert (idle["holds"], idle["in_s"], host["holds"], host["in_s"]) == (False, 50.0, None, None)
    assert json.loads(json.dumps(body)) == body


def test_the_mode_is_the_daemon_s_and_each_model_s() -> None:
    daemon = FakeDaemon()
    spec = replace(daemon.world.models["chat"].spec, mode=Mode.OBSERVE)
    daemon.world = replace(changed(daemon.world, "chat", spec=spec), settings=replace(daemon.world.settings))
    body = json.loads(json.dumps(wire.status_body(daemon)))
    assert (body["mode"], [model["mode"] for model in body["models"]]) == ("enforce", ["observe"] + ["enforce"] * 3)


def test_host_body_follows_the_reading() -> None:
    daemon = FakeDaemon()
    daemon.world = replace(daemon.world, host=Known(HostSeen(8, 4, None), MONO_S, MONO_S))
    assert wire.host_body(daemon.world)["pressure_some_avg10"] is None
    assert wire.host_body(daemon.world)["available_bytes"] == 4
