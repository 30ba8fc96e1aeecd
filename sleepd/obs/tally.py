"""What is counted for /metrics, out of what the journal is made of: published turns, their records, their worlds.

Nothing is looked at for it, and nothing waits. Names of models and rules come from the world alone, so that no caller
can make a series; those of models and rules that are configured no more are dropped.
"""

from sleepd.core.commands import Answer, AnswerKind
from sleepd.core.events import StepEnd, StepEnded
from sleepd.core.life import ASLEEP
from sleepd.core.model import Known, MissingReason
from sleepd.core.plan import Proof
from sleepd.core.record import ModelRecord
from sleepd.core.records import RuleSaved, TaskEnded
from sleepd.core.rules import ActionKind
from sleepd.core.units import Bytes, MonotonicS, Seconds
from sleepd.core.wakes_ahead import OUTCOMES, WAKE_AHEAD
from sleepd.core.world import World
from sleepd.engine.published import Published
from sleepd.gateway.daemon import Held
from sleepd.obs.beginnings import REQUEST_FAILURES, failures_of
from sleepd.obs.counts import Counts
from sleepd.obs.turns import TurnCounts

_MISMATCHES = frozenset({"answer_wrong", "answer_doubted"})
_PROVES = {StepEnd.DONE: "proven", StepEnd.UNPROVEN: "unproven", StepEnd.NOT_PROVABLE: "not_provable"}
_OF_RULES = ("sleepd_rule_actions_total", "sleepd_rule_would_actions_total", "sleepd_rule_alarms_total")
_FROM_THE_START = ("sleepd_server_restarts_total", "sleepd_answer_mismatches_total")


class Tally:
    """Counts from the daemon's start on. Used on the loop's thread only."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._turns = TurnCounts(self.counts)
        self.counts.begin("sleepd_commit_failures_total")
        self._models: frozenset[str] = frozenset()
        self._settings: object = None
        self._saving: dict[str, tuple[MonotonicS, dict[str, Bytes]]] = {}

    # what is told

    def turned(self, published: Published) -> None:
        """Count what a published turn brought."""
        before, turn, counts = published.before, published.turn, self.counts
        world = turn.world
        if world.settings is not self._settings:
            self._take_settings(world)
        counts.observe("sleepd_turn_duration_seconds", published.step_s)
        for name, record in world.models.items():
            old = before.models.get(name)
            if old is not record:
                self._compare(name, old, record, published.now.mono_s)
                self._turns.compare(name, old, record, published.now.mono_s)
        if world.tasks is not before.tasks:
            self._turns.begun(before, world, published.now.mono_s)
        for event in published.events:
            if isinstance(event, StepEnded):
                self._count_step(before, event)
        for task_end in turn.records:
            if isinstance(task_end, TaskEnded):
                self._count_end(world, task_end)
                self._turns.ended(world, task_end)
            elif isinstance(task_end, RuleSaved):
                self._count_acts(before, world, task_end)
        if world.memory.told is not before.memory.told:
            self._count_told(before, world)
        for note in turn.notes:
            if note.kind == WAKE_AHEAD:
                counts.add("sleepd_wakes_ahead_total", note.model, str(note.data["outcome"]))
        for command in turn.commands:
            if isinstance(command, Answer):
                self._count_answer(command)

    def told(self, kind: str, model: str) -> None:
        """Count an event."""
        self.counts.add("sleepd_events_total", kind)
        if kind in _MISMATCHES and model in self._models:
            self.counts.add("sleepd_answer_mismatches_total", model)

    def held(self, held: Held) -> None:
        """Count a request that waited at the gateway."""
        if held.model in self._models:
            self.counts.observe("sleepd_gateway_wait_seconds", held.waited_s, held.model, held.end.value)

    def answered(self, model: str, outcome: str) -> None:
        """Count a request that is over at the gateway."""
        if not model or model in self._models:
            self.counts.add("sleepd_gateway_requests_total", model, outcome)

    def committed(self, took_s: Seconds, ok: bool) -> None:
        """Count a commit."""
        self.counts.observe("sleepd_commit_duration_seconds", took_s)
        if not ok:
            self.counts.add("sleepd_commit_failures_total")

    def looked(self, source: str, took_s: Seconds, known: bool) -> None:
        """Count a poll."""
        self.counts.observe("sleepd_poll_duration_seconds", took_s, source, "known" if known else "missing")

    def settle(self, mono_s: MonotonicS) -> None:
        """Count what sleepers saved until now."""
        for name in list(self._saving):
            self._save(name, mono_s)

    # what is made of it

    def _take_settings(self, world: World) -> None:
        self._settings, self._models = world.settings, frozenset(world.models)
        rules = {rule.name for rule in world.settings.rules}
        self.counts.keep("model", lambda name: not name or name in self._models)
        self.counts.keep("rule", rules.__contains__)
        self._saving = {name: saving for name, saving in self._saving.items() if name in self._models}
        self._turns.begin(self._models)
        for name, record in world.models.items():
            for family in _FROM_THE_START:
                self.counts.begin(family, name)
            for transition in failures_of(record.spec):
                self.counts.begin("sleepd_transitions_total", name, *transition)
            for outcome in REQUEST_FAILURES:
                self.counts.begin("sleepd_gateway_requests_total", name, outcome)
        for rule in world.settings.rules:
            for name in rule.applies_to:
                for family in _OF_RULES if name in self._models else ():
                    self.counts.begin(family, rule.name, name)
                for outcome in OUTCOMES if rule.foresees and rule.action.kind is ActionKind.WAKE else ():
                    self.counts.begin("sleepd_wakes_ahead_total", name, outcome)

    def _compare(self, name: str, old: ModelRecord | None, record: ModelRecord, mono_s: MonotonicS) -> None:
        """Count what a turn changed of a model."""
        failure, was = record.failure, old.failure if old is not None else None
        if failure is not None and failure is not was and failure != was:
            self.counts.add("sleepd_failures_total", name, failure.code)
        unreadable = record.unreadable
        if unreadable is not None and (old is None or old.unreadable is None or old.unreadable.code != unreadable.code):
            self.counts.add("sleepd_failures_total", name, unreadable.code)
        known_as = old.incarnation if old is not None else None
        if known_as is not None and record.incarnation is not None and record.incarnation != known_as:
            self.counts.add("sleepd_server_restarts_total", name)
        asleep = record.life.state in ASLEEP
        if name in self._saving and (not asleep or old is None or old.footprint is not record.footprint):
            self._save(name, mono_s)
            del self._saving[name]
        if asleep and name not in self._saving:
            self._saving[name] = (mono_s, record.learned.given_back())

    def _save(self, name: str, mono_s: MonotonicS) -> None:
        since_s, by_gpu = self._saving[name]
        for uuid, bytes_ in by_gpu.items():
            passed_s = max(0.0, mono_s - since_s)
            self.counts.add("sleepd_saved_gpu_byte_seconds_total", name, uuid, by=bytes_ * passed_s)
        self._saving[name] = (mono_s, by_gpu)

    def _count_step(self, before: World, event: StepEnded) -> None:
        task = before.tasks.get(event.model)
        if task is None or (task.id, task.cursor) != (event.task_id, event.cursor):
            return  # a late report of a step that was judged already
        step = task.plan.steps[task.cursor]
        verb = step.verb.value if task.phase.value in ("do", "undo") else task.phase.value
        self.counts.add("sleepd_steps_total", verb, event.end.value.replace(" ", "_"))
        if step.proof is not Proof.NONE and event.end in _PROVES and task.phase.value in ("do", "undo"):
            self.counts.add("sleepd_proofs_total", event.model, _PROVES[event.end])

    def _count_end(self, world: World, ended: TaskEnded) -> None:
        task = ended.task
        record = world.models.get(task.model)
        if record is None:
            return
        outcome = "done" if ended.done else "failed" if record.failure is not None else "dropped"
        kind, level = task.kind.value, str(task.level)
        self.counts.add("sleepd_transitions_total", task.model, kind, level, task.cause.kind.value, outcome)
        if ended.done:
            self.counts.observe("sleepd_transition_duration_seconds", ended.took_s, task.model, kind, level)

    def _count_acts(self, before: World, world: World, saved: RuleSaved) -> None:
        """A rule's remembered acts grew at their end: it began something."""
        key = (saved.rule, saved.model)
        now, was = world.memory.acts.get(key, ()), before.memory.acts.get(key, ())
        if now and (not was or now[-1] > was[-1]) and saved.model in self._models:
            self.counts.add("sleepd_rule_actions_total", saved.rule, saved.model)

    def _count_told(self, before: World, world: World) -> None:
        for kind, rule, name in world.memory.told - before.memory.told:
            if name in self._models and kind in ("would", "alarm"):
                family = "sleepd_rule_would_actions_total" if kind == "would" else "sleepd_rule_alarms_total"
                self.counts.add(family, rule, name)

    def _count_answer(self, answer: Answer) -> None:
        outcome = answer.problem or answer.kind.value.replace(" ", "_")
        self.counts.add("sleepd_wishes_total", outcome)
        if answer.kind is not AnswerKind.ACCEPTED:
            self.counts.observe("sleepd_wish_wait_seconds", answer.waited_s)


def is_up(record: ModelRecord) -> bool | None:
    """Whether the server can be read; None before the first look."""
    if isinstance(record.seen, Known):
        return True
    return None if record.seen.reason is MissingReason.NOT_YET else False
