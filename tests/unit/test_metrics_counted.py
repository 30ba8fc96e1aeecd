"""What is counted, and when it is not: names from outside, late reports, readings that are missing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from sleepd.core.events import Evidence, StepEnd, StepEnded
from sleepd.core.footprint import Footprint
from sleepd.core.life import Life, State, Weights
from sleepd.core.model import Cause, CauseKind, Failure, Known, Missing, MissingReason, Now
from sleepd.core.plan import Plan, Verb, step_of
from sleepd.core.record import AskKind, Awaited, Waiter, Yielding
from sleepd.core.records import TaskEnded
from sleepd.core.seen import GpuSeen
from sleepd.core.task import Task, TaskKind
from sleepd.core.turn import Turn
from sleepd.core.units import GIB
from sleepd.core.world import World
from sleepd.engine.published import Published
from sleepd.gateway.daemon import Held, HeldEnd
from sleepd.obs.counts import Counts
from sleepd.obs.exposition import Metrics, Page, write_page
from sleepd.obs.families import BY_NAME
from sleepd.obs.gauges import Moment, samples
from sleepd.obs.tally import Tally
from tests.unit.api_rig import GPU, MONO_S, WALL_S, make_world, record

NOW = Now(MONO_S, WALL_S)
NAP, FALL_ASLEEP = Cause(CauseKind.RULE, "nap"), Plan((step_of(Verb.SLEEP_L1),))
AWAKE = Life(State.AWAKE, Weights.LOADED)
SLEPT = Task(9, "chat", TaskKind.SLEEP, 1, NAP, FALL_ASLEEP, MONO_S - 2, running=True)


def published(before: World, after: World | None = None, *, at_s: float = MONO_S, **parts: Any) -> Published:
    events: Sequence[Any] = parts.pop("events", ())
    return Published(before, Turn(after or before, **parts), Now(at_s, WALL_S), 0.0003, events)


def tally_of(world: World) -> Tally:
    tally = Tally()
    tally.turned(published(world))
    return tally


def of(tally: Tally, family: str) -> Mapping[tuple[str, ...], float]:
    return {labels: value for labels, value in tally.counts.counters[f"sleepd_{family}"].items() if value}


def moment_of(world: World) -> Moment:
    return Moment(world, NOW, WALL_S - 60, False, True, lambda name: 0, lambda name: 2)


def changed(world: World, name: str, **fields: Any) -> World:
    return replace(world, models={**world.models, name: replace(world.models[name], **fields)})


def test_an_ended_task_is_one_transition_with_its_cause_and_its_duration() -> None:
    world = make_world()
    tally = tally_of(world)
    tally.turned(published(world, records=(TaskEnded(SLEPT, "asleep", WALL_S, 2.0, True),)))
    assert of(tally, "transitions_total") == {("chat", "sleep", "1", "rule", "done"): 1}
    assert tally.counts.histograms["sleepd_transition_duration_seconds"][("chat", "sleep", "1")].sum == 2.0
    failed = changed(world, "chat", failure=Failure("sleep_refused", "500"))
    tally.turned(published(world, failed, records=(TaskEnded(SLEPT, "refused", WALL_S, 1.0),)))
    tally.turned(published(world, records=(TaskEnded(SLEPT, "overtaken", WALL_S, 1.0),)))
    assert of(tally, "transitions_total") == {
        ("chat", "sleep", "1", "rule", outcome): 1 for outcome in ("done", "failed", "dropped")
    }
    assert of(tally, "failures_total") == {("chat", "sleep_refused"): 1}


@pytest.mark.parametrize(
    ("task_id", "end", "steps", "proofs"),
    [
        (9, StepEnd.DONE, {("sleep level 1", "done"): 1}, {("chat", "proven"): 1}),
        (9, StepEnd.UNPROVEN, {("sleep level 1", "unproven"): 1}, {("chat", "unproven"): 1}),
        (9, StepEnd.BROKEN_OFF, {("sleep level 1", "broken_off"): 1}, {}),
        (8, StepEnd.DONE, {}, {}),
    ],
)
def test_a_step_is_counted_by_how_it_ended_and_not_twice(
    task_id: int, end: StepEnd, steps: Mapping[Any, float], proofs: Mapping[Any, float]
) -> None:
    world = replace(make_world(), tasks={"chat": SLEPT})
    tally = tally_of(world)
    tally.turned(published(world, events=(StepEnded("chat", task_id, 0, end, Evidence()),)))
    assert (of(tally, "steps_total"), of(tally, "proofs_total")) == (steps, proofs)


def test_what_a_sleeper_saves_is_bytes_times_seconds() -> None:
    world = make_world()
    asleep = changed(world, "qwen3-32b", life=Life(State.ASLEEP_L1, Weights.OFFLOADED))
    tally = tally_of(world)
    tally.turned(published(world, asleep, at_s=100.0))
    tally.turned(published(asleep, asleep, at_s=105.0))
    tally.settle(110.0)
    assert of(tally, "saved_gpu_byte_seconds_total") == {("qwen3-32b", GPU): 58 * GIB * 10.0}
    tally.turned(published(asleep, world, at_s=112.0))
    tally.settle(200.0)
    assert of(tally, "saved_gpu_byte_seconds_total") == {("qwen3-32b", GPU): 58 * GIB * 12.0}
    unmeasured = changed(asleep, "qwen3-32b", footprint=Footprint())
    nothing = tally_of(world)
    nothing.turned(published(world, unmeasured, at_s=100.0))
    nothing.settle(200.0)
    assert of(nothing, "saved_gpu_byte_seconds_total") == {}


def test_what_may_fail_is_counted_from_zero_on_and_not_without_bound() -> None:
    world = make_world()
    specs = {name: record.spec for name, record in world.models.items()}
    wide = replace(specs["chat"], unit="vllm@chat.service", max_level=2, prime=True)
    world = changed(world, "chat", spec=wide)
    world = changed(world, "embed", spec=replace(specs["embed"], unit="", max_level=1))
    tally = tally_of(world)
    transitions, requests, turns = (
        tally.counts.counters[f"sleepd_{name}_total"] for name in ("transitions", "gateway_requests", "model_turns")
    )
    for cause in ("request", "operator", "rule", "recovery"):
        assert transitions["embed", "wake", "1", cause, "failed"] == 0.0
    assert transitions["chat", "restart", "0", "recovery", "failed"] == 0.0
    assert ("embed", "restart", "0", "recovery", "failed") not in transitions
    for outcome in ("5xx", "timeout", "queue_full"):
        assert requests["embed", outcome] == 0.0
    for name, most in (("embed", 24), ("chat", 45)):
        assert sum(labels[0] == name for counters in (transitions, requests, turns) for labels in counters) == most


async def test_an_index_is_whose_it_is_now() -> None:
    """A GPU that is gone leaves its counters behind; the index it had is another's after the driver counted anew."""
    other = "GPU-99999999-2222-3333-4444-555555555555"
    world, metrics = make_world(), Metrics()
    for uuid in (GPU, other):
        metrics.tally.counts.add("sleepd_saved_gpu_byte_seconds_total", "chat", uuid, by=7.0)

    async def shown(*gpus: tuple[str, int]) -> set[str]:
        seen = tuple(GpuSeen(uuid, index, 80 * GIB, 14 * GIB, {}) for uuid, index in gpus)
        _, page = await metrics.page(moment_of(replace(world, gpus=Known(seen, MONO_S, MONO_S))), "")
        families = {f.name: f for f in text_string_to_metric_families(page.decode())}
        labels = [s.labels["gpu"] for s in families["sleepd_saved_gpu_byte_seconds"].samples]
        assert len(labels) == len(set(labels)) == 2
        return set(labels)

    assert await shown((GPU, 0), (other, 1)) == {"0", "1"}
    assert await shown((other, 1)) == {"0", "1"}, "nobody else has the index that the lost one had"
    assert await shown((other, 0)) == {GPU, "0"}
    assert await shown((other, 1), (GPU, 0)) == {"0", "1"}


def test_rules_that_act_and_rules_that_would() -> None:
    world = make_world()
    tally = tally_of(world)
    told = frozenset({("would", "nap", "chat"), ("alarm", "nap", "embed"), ("helpless", "ram", "chat")})
    after = replace(world, memory=replace(world.memory, told=told))
    tally.turned(published(world, after))
    tally.turned(published(after, replace(after, memory=replace(after.memory, told=frozenset()))))
    assert of(tally, "rule_would_actions_total") == {("nap", "chat"): 1}
    assert of(tally, "rule_alarms_total") == {("nap", "embed"): 1}


def test_a_server_that_was_started_anew_and_answers_that_were_wrong() -> None:
    world = make_world()
    known = changed(world, "chat", incarnation="pst:1")
    tally = tally_of(world)
    tally.turned(published(world, known))
    tally.turned(published(known, changed(known, "chat", incarnation="pst:2")))
    assert of(tally, "server_restarts_total") == {("chat",): 1}
    tally.told("answer_wrong", "chat")
    tally.told("answer_doubted", "gone")
    assert of(tally, "answer_mismatches_total") == {("chat",): 1}
    assert of(tally, "events_total") == {("answer_wrong",): 1, ("answer_doubted",): 1}


def test_names_from_outside_make_no_series_and_those_that_go_take_theirs_along() -> None:
    world = make_world()
    tally = tally_of(world)
    for name in ("chat", "", "made-up", "x" * 1000):
        tally.answered(name, "2xx")
        tally.held(Held(name, 1.0, HeldEnd.SERVED))
    assert set(of(tally, "gateway_requests_total")) == {("chat", "2xx"), ("", "2xx")}
    assert set(tally.counts.histograms["sleepd_gateway_wait_seconds"]) == {("chat", "served")}
    left = {name: r for name, r in world.models.items() if name != "chat"}
    fewer = replace(world, models=left, settings=replace(world.settings, models={n: r.spec for n, r in left.items()}))
    tally.turned(published(world, fewer))
    tally.answered("chat", "client_left")
    assert set(of(tally, "gateway_requests_total")) == {("", "2xx")}
    assert tally.counts.histograms["sleepd_gateway_wait_seconds"] == {}
    assert "chat" not in {labels[0] for labels in tally.counts.counters["sleepd_server_restarts_total"]}


def test_what_is_missing_has_no_sample() -> None:
    world = make_world()
    blind = replace(world, gpus=Missing(MissingReason.UNREADABLE), host=Missing(MissingReason.UNREADABLE))
    blind = changed(blind, "chat", seen=Missing(MissingReason.REFUSED), life=Life(State.LOST, Weights.DOUBTFUL))
    told = {(s.family, s.labels): s.value for s in samples(moment_of(blind))}
    families = {family for family, _ in told}
    assert not [f for f in families if f.startswith("sleepd_gpu_") or "vram" in f]
    assert not {"sleepd_host_total_bytes", "sleepd_host_available_bytes"} & families
    assert ("sleepd_model_running_requests", ("chat",)) not in told
    assert ("sleepd_model_level", ("chat",)) not in told
    assert told["sleepd_reading_up", ("gpus",)] == 0
    assert told["sleepd_model_up", ("chat",)] == 0
    assert told["sleepd_model_state", ("chat", "lost")] == 1
    newborn = replace(blind, models={"new": record("new", State.UNKNOWN, Weights.DOUBTFUL, idle_s=0.0)})
    newborn = changed(newborn, "new", seen=Missing(MissingReason.NOT_YET))
    assert "sleepd_model_up" not in {s.family for s in samples(moment_of(newborn))}


@pytest.mark.parametrize("accept", ["", "text/plain", "application/openmetrics-text;version=abc", "*/*;q=\x00"])
async def test_every_family_is_written_as_it_is_declared(accept: str) -> None:
    world = make_world()
    metrics = Metrics()
    metrics.tally.turned(published(world, records=(TaskEnded(SLEPT, "asleep", WALL_S, 2.0, True),)))
    content_type, page = await metrics.page(moment_of(world), accept)
    wants_openmetrics = "openmetrics" in accept
    assert ("openmetrics" in content_type) is wants_openmetrics
    read = read_openmetrics if wants_openmetrics else text_string_to_metric_families
    for family in read(page.decode()):
        if family.name.startswith("process_"):
            continue
        of_table = BY_NAME[f"{family.name}_total" if family.type == "counter" else family.name]
        assert (family.type, family.documentation) == (of_table.kind, of_table.meaning)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(of_table.labels)


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3", True),
        ("text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5", False),
        ("text/plain;version=0.0.4, application/openmetrics-text;q=0", False),
        ("Application/OpenMetrics-Text; Q=0.5, */*; q=0.1", True),
        ("application/openmetrics-text;q=much", False),
        ("text/html;about=application/openmetrics-text", False),
    ],
)
def test_the_format_is_the_one_that_is_asked_for_first(accept: str, openmetrics: bool) -> None:
    content_type, page = write_page(Page((), Counts(), {}), accept)
    assert content_type.startswith("application/openmetrics-text") is openmetrics
    assert page.endswith(b"# EOF\n") is openmetrics


async def test_what_a_server_says_its_version_is_stays_one_short_label() -> None:
    world = make_world()
    facts = world.models["chat"].facts
    assert facts is not None
    odd = changed(world, "chat", facts=replace(facts, version='0.32"} 1\n' + "x" * 100_000))
    _, page = await Metrics().page(moment_of(odd), "")
    (info,) = [
        sample.labels
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name == "sleepd_model_info" and sample.labels["model"] == "chat"
    ]
    assert info["version"].startswith('0.32"} 1\nxxx')
    assert len(info["version"]) == 64


@given(st.lists(st.floats(0, 1000, allow_nan=False)))
def test_buckets_say_how_many_are_at_most_their_bound(values: list[float]) -> None:
    counts = Counts()
    for value in values:
        counts.observe("sleepd_turn_duration_seconds", value)
    _, page = write_page(Page((), counts, {}), "")
    found = {
        (s.name, s.labels.get("le")): s.value for f in text_string_to_metric_families(page.decode()) for s in f.samples
    }
    for bound in BY_NAME["sleepd_turn_duration_seconds"].buckets if values else ():
        told = found["sleepd_turn_duration_seconds_bucket", repr(bound)]
        assert told == sum(value <= bound for value in values)
    if values:
        assert found["sleepd_turn_duration_seconds_bucket", "+Inf"] == len(values)
        assert found["sleepd_turn_duration_seconds_count", None] == len(values)
        assert found["sleepd_turn_duration_seconds_sum", None] == pytest.approx(sum(values))


# --- turns -------------------------------------------------------------------------------------------------------

FOR_CHAT = Cause(CauseKind.VICTIM, "chat")
GIVES_UP = replace(SLEPT, model="qwen3-32b", cause=FOR_CHAT, started_s=MONO_S - 2.0)
SHUT = Yielding("chat", MONO_S - 30.0, MONO_S + 270.0)


def shared(**fields: Any) -> World:
    """qwen3-32b is awake since 90 s, as `fields` say."""
    return changed(make_world(), "qwen3-32b", life=AWAKE, awake_since_s=MONO_S - 90.0, **fields)


def slept(tally: Tally, world: World, task: Task = GIVES_UP, *, done: bool = True) -> None:
    after = changed(shared(), "qwen3-32b", life=Life(State.ASLEEP_L1, Weights.OFFLOADED)) if done else shared()
    tally.turned(published(world, after, records=(TaskEnded(task, "asleep", WALL_S, 2.0, done),)))


def test_a_turn_that_ends_for_another_model_is_counted_with_how_it_ended_and_how_long_it_lasted() -> None:
    tally = tally_of(shared())
    slept(tally, shared())
    assert of(tally, "model_turns_total") == {("qwen3-32b", "idle"): 1}
    assert tally.counts.histograms["sleepd_model_turn_seconds"][("qwen3-32b",)].sum == 88.0
    tally.turned(published(shared(), shared(yields=SHUT)))
    slept(tally, shared(yields=SHUT))
    assert of(tally, "model_turns_total") == {("qwen3-32b", "idle"): 1, ("qwen3-32b", "finished"): 1}
    slept(tally, shared(), replace(GIVES_UP, cause=NAP))
    slept(tally, shared(), done=False)
    assert sum(of(tally, "model_turns_total").values()) == 2, "a nap is nobody's turn, and who stays awake gave none up"


@pytest.mark.parametrize(("after_s", "outcome"), [(0.0, "in_vain"), (270.0, "kept")])
def test_a_gate_that_opens_again_is_counted_as_a_turn_that_was_kept(after_s: float, outcome: str) -> None:
    tally = tally_of(shared())
    tally.turned(published(shared(), shared(yields=SHUT)))
    tally.turned(published(shared(yields=SHUT), shared(), at_s=MONO_S + after_s))
    assert of(tally, "model_turns_total") == {("qwen3-32b", outcome): 1}
    slept(tally, shared())
    assert of(tally, "model_turns_total")["qwen3-32b", "idle"] == 1, "the gate that was shut before is over"


def test_how_long_a_turn_was_waited_for_is_counted_where_others_came_first() -> None:
    waiter = Waiter(4, AskKind.WAKE, Cause(CauseKind.REQUEST, "web"), MONO_S - 61.0, MONO_S + 59.0)
    waits = changed(make_world(), "embed", waiters=(waiter,), awaited=Awaited(("chat",), MONO_S))
    wake = replace(SLEPT, model="embed", kind=TaskKind.WAKE)
    tally = tally_of(waits)
    tally.turned(published(waits, replace(waits, tasks={"embed": wake})))
    assert tally.counts.histograms["sleepd_model_turn_wait_seconds"][("embed",)].sum == 61.0
    at_once = changed(waits, "embed", awaited=None)
    tally.turned(published(at_once, replace(at_once, tasks={"embed": wake})))
    assert sum(tally.counts.histograms["sleepd_model_turn_wait_seconds"][("embed",)].counts) == 1
