"""From the world to the shapes of the API: what a world, an answer, an event look like in JSON. Pure."""

from typing import cast

from sleepd import __version__
from sleepd.api.daemon import Daemon, RingEvent
from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.ledger import reserved_bytes
from sleepd.core.life import LEVEL
from sleepd.core.model import CauseKind, Known, Missing, MissingReason
from sleepd.core.record import AskKind, Hold, ModelRecord, is_pinned
from sleepd.core.records import TaskEnded
from sleepd.core.reports import Explanation, NextAction
from sleepd.core.seen import GpuSeen
from sleepd.core.task import Task
from sleepd.core.world import World, public_state
from sleepd.wire import answers, shapes
from sleepd.wire.problems import PROBLEMS, problem_body
from sleepd.wire.values import format_time, rounded

CAUSES = frozenset(CauseKind)


def answer_body(daemon: Daemon, model: str, answer: Answer) -> tuple[int, answers.Outcome | shapes.Problem]:
    """Return the status and body that tell a caller of wake, sleep, reset or pin what became of its wish."""
    if answer.kind in (AnswerKind.REFUSED, AnswerKind.TIMED_OUT):
        return refusal_body(model, answer)
    if model not in daemon.world.models:
        return problem_body("unknown_model", f"{model} was removed from the configuration meanwhile")
    body: answers.Outcome = {
        "model": model_body(daemon, model),
        "task": answer.task_id,
        "waited_s": round(answer.waited_s, 3),
    }
    return (202 if answer.kind is AnswerKind.ACCEPTED else 200), body


def refusal_body(model: str, answer: Answer) -> tuple[int, shapes.Problem]:
    """Return the status and body of an answer that is a no, or that comes because time is up."""
    if answer.kind is AnswerKind.REFUSED:
        kind = answer.problem if answer.problem in PROBLEMS else "failed"
        return problem_body(kind, answer.detail, wanted=answer.wanted, found=answer.found, hint=answer.hint)
    detail = answer.detail or f"{model} was not done after {answer.waited_s:.0f}s; the task goes on"
    hint = answer.hint or "ask again, or watch it with sleepctl status"
    return problem_body("timeout", detail, wanted=answer.wanted, found=answer.found, hint=hint)


def status_body(daemon: Daemon) -> answers.Status:
    """Return everything there is to see, of one moment. `notes` names the readings that are missing, and why."""
    world = daemon.world
    gpus = world.gpus.value if isinstance(world.gpus, Known) else ()
    return {
        "version": __version__,
        "mode": world.settings.mode,
        "since": format_time(daemon.started_wall_s),
        "now": format_time(daemon.now().wall_s),
        "models": [model_body(daemon, name) for name in sorted(world.models)],
        "gpus": [gpu_body(world, gpu) for gpu in sorted(gpus, key=lambda gpu: gpu.index)],
        "host": host_body(world),
        "tasks": [task_body(daemon, task) for task in sorted(world.tasks.values(), key=lambda task: task.id)],
        "notes": _missing_notes(world),
    }


def model_body(daemon: Daemon, name: str) -> shapes.Model:
    """Return one model as the contract's `Model`. Raises KeyError for a name that is not configured."""
    world, now = daemon.world, daemon.now()
    record = world.models[name]
    spec, seen = record.spec, record.seen.value if isinstance(record.seen, Known) else None
    failure, last = record.failing, record.last_wake
    return {
        "name": name,
        "state": cast(shapes.State, public_state(world, name)),
        "level": cast(shapes.Level, LEVEL[record.life.state]),
        "since": format_time(record.since_wall_s) if record.since_wall_s else None,
        "url": spec.url,
        "unit": spec.unit or None,
        "version": record.facts.version if record.facts else None,
        "mode": spec.mode,
        "gpus": [_model_gpu_body(world, record, uuid) for uuid in _gpus_of(world, record)],
        "host_ram_bytes": spec.host_ram_bytes if record.learned.host_bytes is None else record.learned.host_bytes,
        "idle_s": _idle_s(record, now.mono_s),
        "running": seen.running if seen else None,
        "waiting": seen.waiting if seen else None,
        "in_flight": daemon.in_flight(name),
        "queued": daemon.queued(name)
        + sum(w.ask is AskKind.WAKE and w.cause.kind is not CauseKind.REQUEST for w in record.waiters),
        "holds": [hold.id for hold in record.holds],
        "pinned": is_pinned(record),
        "priority": spec.priority,
        "last_wake": {"seconds": round(last.seconds, 3), "action": last.action, "ok": last.ok} if last else None,
        "eta_s": rounded(daemon.eta_s(name)),
        "hold_down_s": round(max(0.0, record.hold_down_until_s - now.mono_s), 3),
        "reason": daemon.reason(name),
        "next": next_body(daemon.next_action(name)),
        "failure": {"code": failure.code, "detail": failure.detail} if failure else None,
        "restart_wanted": record.restart_wanted or None,
        "requests_finished": record.used.requests_done,
    }


def gpu_body(world: World, gpu: GpuSeen) -> shapes.Gpu:
    """Return one GPU; `models` names those whose processes were seen holding memory on it."""
    return {
        "uuid": gpu.uuid,
        "index": gpu.index,
        "mig_of": gpu.mig_of,
        "total_bytes": gpu.total_bytes,
        "free_bytes": gpu.free_bytes,
        "margin_bytes": world.settings.gpu_margin_bytes,
        "reserved_bytes": reserved_bytes(world.models, world.reservations.values(), (gpu,)).get(gpu.uuid, 0),
        "models": [name for name in sorted(world.models) if gpu.uuid in _gpus_of(world, world.models[name])],
    }


def host_body(world: World) -> shapes.Host:
    """Return the host's RAM; null where it cannot be read."""
    host = world.host.value if isinstance(world.host, Known) else None
    return {
        "total_bytes": host.total_bytes if host else None,
        "available_bytes": host.available_bytes if host else None,
        "reserve_bytes": world.settings.host_reserve_bytes,
        "pressure_some_avg10": host.pressure_some_avg10 if host else None,
    }


def task_body(daemon: Daemon, task: Task, ended: TaskEnded | None = None) -> shapes.Task:
    """Return one task; `step` is what it is doing, `steps_done` of `steps` are behind it. `ended`: how it came out."""
    now, steps = daemon.now(), task.plan.steps
    running_s = max(0.0, now.mono_s - task.started_s) if ended is None else ended.took_s
    step = steps[task.cursor].verb.value if ended is None and task.cursor < len(steps) else None
    return {
        "id": task.id,
        "model": task.model,
        "kind": task.kind,
        "level": task.level,
        "cause": {"kind": task.cause.kind, "who": task.cause.who},
        "phase": task.phase,
        "step": step,
        "steps_done": min(task.cursor, len(steps)),
        "steps": len(steps),
        "attempt": task.attempt,
        "started": format_time((now.wall_s if ended is None else ended.wall_s) - running_s),
        "running_s": round(running_s, 3),
        "parent": task.parent,
        "victim": task.victim if ended is None else None,
        "ended": format_time(ended.wall_s) if ended else None,
        "outcome": ended.outcome if ended else None,
        "done": ended.done if ended else None,
    }


def tasks_body(daemon: Daemon) -> answers.Tasks:
    """Return the running tasks, then those that ended, the newest first."""
    running = sorted(daemon.world.tasks.values(), key=lambda task: -task.id)
    bodies = [task_body(daemon, task) for task in running]
    return {"tasks": bodies + [task_body(daemon, ended.task, ended) for ended in reversed(daemon.ended)]}


def find_task(daemon: Daemon, task_id: int) -> shapes.Task | None:
    """Return the task of this id, None where none is running or remembered."""
    for task in daemon.world.tasks.values():
        if task.id == task_id:
            return task_body(daemon, task)
    found = next((ended for ended in reversed(daemon.ended) if ended.task.id == task_id), None)
    return task_body(daemon, found.task, found) if found else None


def hold_body(model: str, hold: Hold) -> shapes.Hold:
    return {
        "id": hold.id,
        "model": model,
        "uid": hold.uid,
        "who": hold.who,
        "reason": hold.reason,
        "since": format_time(hold.since_wall_s),
        "ttl_s": hold.ttl_s,
        "until": format_time(hold.until_wall_s) if hold.until_wall_s is not None else None,
        "attached": hold.stream is not None,
    }


def holds_body(world: World) -> answers.Holds:
    found = ((name, record.holds) for name, record in sorted(world.models.items()))
    return {"holds": [hold_body(name, hold) for name, holds in found for hold in holds]}


def next_body(action: NextAction | None) -> shapes.Next | None:
    return {"rule": action.rule, "action": action.action, "in_s": round(action.in_s, 3)} if action else None


def explain_body(explanation: Explanation) -> answers.Explanation:
    """Return every rule for one model, each condition with wanted and found, the verdict and what comes next."""
    return {
        "model": explanation.model,
        "state": cast(shapes.State, explanation.state),
        "level": cast(shapes.Level, explanation.level),
        "reason": explanation.reason,
        "verdict": explanation.verdict,
        "protections": list(explanation.protections),
        "rules": [
            {
                "rule": rule.rule,
                "action": rule.action,
                "kind": rule.kind,
                "holds": rule.holds,
                "missing": rule.missing,
                "due_in_s": rounded(rule.due_in_s),
                "conditions": [
                    {
                        "name": condition.name,
                        "wanted": condition.wanted,
                        "found": condition.found,
                        "holds": condition.holds,
                        "in_s": rounded(condition.in_s),
                    }
                    for condition in rule.conditions
                ],
            }
            for rule in explanation.rules
        ],
        "next": next_body(explanation.next),
    }


def event_body(event: RingEvent) -> shapes.Event:
    note = event.note
    task, (cause, _, who) = note.data.get("task"), str(note.data.get("cause", "")).partition(":")
    return {
        "id": event.id,
        "time": format_time(event.wall_s),
        "kind": note.kind,
        "model": note.model or None,
        "gpus": list(event.gpus),
        "task": task if isinstance(task, int) else None,
        "cause": {"kind": CauseKind(cause), "who": who} if cause in CAUSES else None,
        "text": note.text,
        "data": dict(note.data),
    }


def unread_models(world: World) -> list[str]:
    """Return the models that neither answered nor were found unreachable yet: the daemon is ready without them."""
    return [
        name
        for name, record in sorted(world.models.items())
        if isinstance(record.seen, Missing) and record.seen.reason is MissingReason.NOT_YET
    ]


def _idle_s(record: ModelRecord, mono_s: float) -> float | None:
    if isinstance(record.seen, Missing) and record.seen.reason is MissingReason.NOT_YET:
        return None
    seen = record.seen.value if isinstance(record.seen, Known) else None
    if record.in_flight or record.holds or (seen and (seen.running or seen.waiting)):
        return 0.0
    return rounded(max(0.0, mono_s - record.last_active_s))


def _gpus_of(world: World, record: ModelRecord) -> tuple[str, ...]:
    """Return the GPUs of a model as uuids: where it was seen, else as configured (as written where nothing matches)."""
    if record.placed_on:
        return record.placed_on
    seen = world.gpus.value if isinstance(world.gpus, Known) else ()
    by_index = {str(gpu.index): gpu.uuid for gpu in seen}
    return tuple(by_index.get(written, written) for written in record.spec.gpus)


def _model_gpu_body(world: World, record: ModelRecord, uuid: str) -> shapes.ModelGpu:
    """`asleep_bytes` and `need_bytes` are learned, else declared; awake is their sum, else what is held just now."""
    seen = world.gpus.value if isinstance(world.gpus, Known) else ()
    gpu = next((gpu for gpu in seen if gpu.uuid == uuid), None)
    footprint = record.learned
    learned = footprint.need(uuid, LEVEL[record.life.state] or 1)
    asleep, awake = footprint.asleep.get(uuid), footprint.awake.get(uuid)
    if awake is None and learned is not None and asleep is not None:
        awake = asleep + learned
    if awake is None and LEVEL[record.life.state] == 0 and gpu is not None and gpu.used_by_pid is not None:
        pids = record.seen.value.pids if isinstance(record.seen, Known) else ()
        awake = sum(gpu.used_by_pid.get(pid, 0) for pid in pids) or None
    return {
        "uuid": uuid,
        "index": gpu.index if gpu else None,
        "awake_bytes": awake,
        "asleep_bytes": asleep,
        "need_bytes": record.spec.vram_bytes if learned is None else learned,
    }


def _missing_notes(world: World) -> list[str]:
    notes = []
    for what, reading in (("the GPUs", world.gpus), ("host memory", world.host)):
        if isinstance(reading, Missing):
            detail = f" ({reading.detail})" if reading.detail else ""
            notes.append(f"{what}: {reading.reason.value}{detail}")
    return notes
