"""Steps on a unit: what counts as ended, started and answering, and what a step does that is carried out again."""

from dataclasses import replace

from core_worlds import NOW, seen

from sleepd.core.asking import Got, Look, LookUnit, OrderUnit, Pause, ReadGpus
from sleepd.core.commands import StepOrder
from sleepd.core.events import StepEnd
from sleepd.core.model import Known, Missing, MissingReason
from sleepd.core.plan import Verb, step_of
from sleepd.core.procedure import perform
from sleepd.core.seen import GpuSeen
from sleepd.core.unit import JobEnd, Ordered, UnitOrder, UnitSeen
from sleepd.core.units import GIB

RUNS = UnitSeen(active="active", sub="running", invocation="1", main_pid=10)
OVER = UnitSeen(invocation="1")
DONE = Ordered(JobEnd.DONE)
LEFT_OUT = {-1: 0}
"""What is held where NVML tells nothing of that GPU."""


class Outside:
    """Answers what a step asks; each list is played to its last item, which goes on."""

    def __init__(self, units=(OVER,), held=({},), looks=(), orders=(DONE,)):
        self.units, self.held, self.looks, self.orders = [list(x) for x in (units, held, looks, orders)]
        self.ordered: list[UnitOrder] = []
        self.now_s = NOW.mono_s

    def run(self, verb, **order):
        made = StepOrder("a", 1, 0, step_of(verb), 300.0, unit="vllm@a.service", **order)
        procedure = perform(made, self.now_s)
        ask = next(procedure)
        for _ in range(10_000):
            value = self._answer(ask)
            try:
                ask = procedure.send(Got(value, self.now_s))
            except StopIteration as stop:
                return stop.value
        raise AssertionError("the step never ends")

    def _answer(self, ask):
        if isinstance(ask, Pause):
            self.now_s += ask.seconds
            return None
        if isinstance(ask, LookUnit):
            unit = _next(self.units)
            return unit if isinstance(unit, Missing) else Known(unit, self.now_s, self.now_s)
        if isinstance(ask, OrderUnit):
            self.ordered.append(ask.order)
            return _next(self.orders)
        if isinstance(ask, ReadGpus):
            held = _next(self.held)
            if isinstance(held, Missing):
                return held
            free = 80 * GIB - sum((held or {}).values())
            told = () if held is LEFT_OUT else (GpuSeen("GPU-0", 0, 80 * GIB, free, held),)
            return Known(told, self.now_s, self.now_s)
        assert isinstance(ask, Look)
        return _next(self.looks)


def _next(items):
    return items.pop(0) if len(items) > 1 else items[0]


def test_a_unit_that_runs_is_stopped_and_its_memory_shown_free():
    outside = Outside(units=(RUNS, OVER), held=({10: GIB}, {10: GIB}, {}))
    end, evidence = outside.run(Verb.END_UNIT)
    assert (end, outside.ordered) == (StepEnd.DONE, [UnitOrder.STOP])
    assert evidence.gpus_after.value[0].used_by_pid == {}


def test_what_is_left_is_killed_and_shown_free_before_it_is_over():
    left = replace(OVER, active="failed", sub="failed", pids=(11,))
    outside = Outside(units=(left, left, OVER), held=({11: 40 * GIB}, {}))
    end, _ = outside.run(Verb.END_UNIT)
    assert (end, outside.ordered) == (StepEnd.DONE, [UnitOrder.KILL])


def test_memory_that_is_not_given_back_is_never_taken_for_free():
    end, evidence = Outside(units=(RUNS, OVER), held=({10: GIB},)).run(Verb.END_UNIT)
    assert end is StepEnd.UNPROVEN
    assert "nvidia-smi" in evidence.detail


def test_where_nvml_cannot_be_read_nothing_is_shown():
    missing = Missing(MissingReason.UNREADABLE, "NVML: unknown error")
    end, evidence = Outside(units=(RUNS, OVER), held=(missing,)).run(Verb.END_UNIT)
    assert (end, "unknown error" in evidence.detail) == (StepEnd.UNPROVEN, True)


def test_where_nvml_does_not_tell_processes_the_gpus_must_have_settled():
    outside = Outside(units=(RUNS, OVER), held=(None,))
    assert outside.run(Verb.END_UNIT)[0] is StepEnd.DONE


def test_a_gpu_that_nvml_leaves_out_for_once_is_not_taken_for_free():
    outside = Outside(units=(RUNS, OVER), held=(LEFT_OUT, {10: GIB}, {}))
    end, evidence = outside.run(Verb.END_UNIT, uuids=("GPU-0",))
    assert (end, evidence.gpus_after.value[0].used_by_pid) == (StepEnd.DONE, {})


def test_of_a_gpu_that_nvml_goes_on_leaving_out_nothing_is_shown():
    end, evidence = Outside(units=(RUNS, OVER), held=(LEFT_OUT,)).run(Verb.END_UNIT, uuids=("GPU-0",))
    assert (end, "NVML tells nothing of GPU-0" in evidence.detail) == (StepEnd.UNPROVEN, True)


def test_another_start_than_the_one_to_be_ended_is_left_alone():
    outside = Outside(units=(replace(RUNS, invocation="2"),))
    assert outside.run(Verb.END_UNIT, invocation="1")[0] is StepEnd.DONE
    assert outside.ordered == []


def test_what_is_left_of_another_start_that_is_over_too_is_killed():
    left = replace(OVER, invocation="2", active="failed", sub="failed", pids=(11,))
    outside = Outside(units=(left, left, OVER), held=({11: 40 * GIB}, {}))
    end, _ = outside.run(Verb.END_UNIT, invocation="1")
    assert (end, outside.ordered) == (StepEnd.DONE, [UnitOrder.KILL])


def test_what_was_started_and_stopped_again_before_it_is_not_started():
    """By a daemon that died right after its order, and a person since."""
    outside = Outside(units=(replace(OVER, invocation="2"),))
    end, evidence = outside.run(Verb.START_UNIT, invocation="1")
    assert (end, outside.ordered) == (StepEnd.BROKEN_OFF, [])
    assert evidence.detail == "vllm@a.service was started and stopped again"
    assert Outside(units=(OVER,)).run(Verb.START_UNIT, invocation="1")[0] is StepEnd.DONE


def test_carried_out_again_it_stops_nothing_that_is_over():
    outside = Outside(units=(OVER,))
    assert outside.run(Verb.END_UNIT)[0] is StepEnd.DONE
    assert outside.ordered == []


def test_a_stop_that_systemd_cannot_finish_in_time_is_unanswered():
    outside = Outside(units=(RUNS,), orders=(Ordered(JobEnd.UNANSWERED, "still runs"),))
    assert outside.run(Verb.END_UNIT)[0] is StepEnd.UNANSWERED


def test_a_unit_that_comes_back_whenever_it_is_stopped_is_given_up():
    outside = Outside(units=(RUNS,))
    end, _ = outside.run(Verb.END_UNIT)
    assert end is StepEnd.UNPROVEN
    assert outside.ordered == [UnitOrder.STOP] * 4


NO_BUS = Missing(MissingReason.NO_MANAGER, "no system bus")


def test_a_stop_whose_answer_was_lost_is_followed_up_at_the_unit():
    outside = Outside(units=(RUNS, NO_BUS, NO_BUS, OVER), orders=(Ordered(JobEnd.UNANSWERED, "the bus broke"),))
    end, evidence = outside.run(Verb.END_UNIT)
    assert (end, outside.ordered) == (StepEnd.DONE, [UnitOrder.STOP])
    assert not evidence.stopped_before


def test_a_second_order_that_finds_no_bus_does_not_mean_that_nothing_was_done():
    orders = (Ordered(JobEnd.UNANSWERED, "the bus broke"), Ordered(JobEnd.UNREACHABLE, "no system bus"))
    end, evidence = Outside(units=(RUNS,), orders=orders).run(Verb.END_UNIT)
    assert (end, evidence.ordered.end) == (StepEnd.UNANSWERED, JobEnd.UNANSWERED)


def test_a_unit_that_cannot_be_looked_at_is_left_untouched_and_that_is_said():
    outside = Outside(units=(NO_BUS,))
    end, evidence = outside.run(Verb.END_UNIT)
    assert (end, outside.ordered, evidence.ordered.end) == (StepEnd.UNANSWERED, [], JobEnd.UNREACHABLE)


def test_a_start_that_is_refused_says_why():
    outside = Outside(orders=(Ordered(JobEnd.FAILED, "start-limit-hit"),))
    end, evidence = outside.run(Verb.START_UNIT)
    assert (end, evidence.detail) == (StepEnd.REFUSED, "start-limit-hit")


REFUSED = Missing(MissingReason.REFUSED, "connection refused")


def test_a_server_that_answers_came_up():
    outside = Outside(units=(RUNS,), looks=(REFUSED, REFUSED, seen()))
    assert outside.run(Verb.AWAIT_HEALTH)[0] is StepEnd.DONE


def test_one_whose_unit_fails_does_not():
    failed = replace(RUNS, active="failed", sub="failed", result="exit-code")
    end, evidence = Outside(units=(RUNS, failed), looks=(REFUSED,)).run(Verb.AWAIT_HEALTH)
    assert (end, "journalctl" in evidence.detail) == (StepEnd.REFUSED, True)


def test_one_that_somebody_stops_or_systemd_starts_again_is_told_apart():
    for unit in (OVER, replace(RUNS, active="activating", sub="auto-restart")):
        end, evidence = Outside(units=(RUNS, unit), looks=(REFUSED,)).run(Verb.AWAIT_HEALTH)
        assert (end, evidence.unit.value) == (StepEnd.BROKEN_OFF, unit)


def test_one_that_never_answers_ends_at_its_limit_and_not_before():
    outside = Outside(units=(RUNS,), looks=(REFUSED,))
    assert outside.run(Verb.AWAIT_HEALTH)[0] is StepEnd.UNANSWERED
    assert outside.now_s >= NOW.mono_s + 300.0
