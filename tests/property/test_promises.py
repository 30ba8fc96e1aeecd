"""The ledger: what was promised is neither given away nor counted twice, on several GPUs, beside foreign tenants."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.core.footprint import Footprint, added
from sleepd.core.host_room import HostShort, backup_need, host_preflight
from sleepd.core.ledger import left_beside, left_of, promised_bytes, unmanaged_bytes
from sleepd.core.life import Life, State, Weights
from sleepd.core.memory import Admitted, preflight, wake_needs
from sleepd.core.model import Cause, CauseKind, Known, ModelSpec
from sleepd.core.plan import Plan
from sleepd.core.record import ModelRecord
from sleepd.core.reservation import Reservation
from sleepd.core.seen import EngineFacts, GpuSeen, HostSeen, ModelSeen, UnitMemory
from sleepd.core.task import Task, TaskKind

BOUNDED = settings(max_examples=300, deadline=None, derandomize=True, database=None)
UUIDS = ("GPU-0", "GPU-1", "GPU-2")
TOTAL = 40
# Small numbers collide at the boundaries, where mistakes live.
BYTES = st.integers(0, 12)
STRANGER = 900
FACTS = EngineFacts("0.32.0", (0, 32), "pst:1", checkpoint_bytes=5)
ASLEEP = Life(State.ASLEEP_L1, Weights.OFFLOADED)


def record(name: str, **more: object) -> ModelRecord:
    """A sleeper on GPU 0, of whose memory nothing was learned yet."""
    made = ModelRecord(spec=ModelSpec(name, f"http://{name}", gpus=("0",)), life=ASLEEP, facts=FACTS)
    return replace(made, **more)


@BOUNDED
@given(BYTES, st.none() | st.integers(-12, 24))
def test_a_promise_shrinks_by_what_was_taken_and_never_grows(promised, grown):
    left = left_of(promised, grown)
    assert 0 <= left <= promised
    if grown is not None and grown >= 0:
        # Taken and still promised are the promise, or what was taken beyond it.
        assert left + grown == max(promised, grown)
    else:
        assert left == promised


@BOUNDED
@given(BYTES, BYTES)
def test_a_backup_takes_what_is_not_pinned_yet(checkpoint, pinned):
    def need(checkpoint, pinned):
        facts = replace(FACTS, checkpoint_bytes=checkpoint + 1)
        taken = backup_need(record("a", facts=facts, footprint=Footprint(pinned_bytes=pinned)), None)
        assert taken is not None
        return taken

    assert need(checkpoint, pinned) >= 0
    assert need(checkpoint, pinned) + pinned >= 2 * (checkpoint + 1)
    assert need(checkpoint + 1, pinned) >= need(checkpoint, pinned) >= need(checkpoint, pinned + 1)


@st.composite
def tenancies(draw):
    """GPUs with sleepers of one to three GPUs, half-done wakes among them, and strangers."""
    count = draw(st.integers(1, 3))
    models: dict[str, tuple[ModelRecord, dict[str, int], dict[str, int]]] = {}
    for i in range(draw(st.integers(1, 4))):
        gpus = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True))
        needs = {UUIDS[g]: draw(BYTES) for g in gpus}
        taken = {u: draw(st.integers(0, need)) for u, need in needs.items()}
        asleep = dict.fromkeys(needs, 1)
        footprint = Footprint(freed={u: (b,) for u, b in needs.items()}, asleep=asleep)
        seen = Known(ModelSeen(FACTS, is_sleeping=True, pids=(100 + i,)), 0.0, 0.0)
        name = f"m{i}"
        made = record(name, footprint=footprint, seen=seen)
        made = replace(made, spec=replace(made.spec, gpus=tuple(str(g) for g in gpus)))
        models[name] = (made, needs, taken)
    strangers = [draw(BYTES) for _ in range(count)]
    waking = draw(st.sets(st.sampled_from(sorted(models))))
    free = [draw(st.integers(0, TOTAL)) for _ in range(count)]
    return count, models, strangers, waking, free


def see(count, models, strangers, waking, free):
    gpus = []
    for index in range(count):
        uuid, used = UUIDS[index], {STRANGER: strangers[index]}
        for name, (_, needs, taken) in models.items():
            if uuid in needs:
                used[100 + int(name[1:])] = 1 + (taken[uuid] if name in waking else 0)
        gpus.append(GpuSeen(uuid, index, free[index] + sum(used.values()), free[index], used))
    return tuple(gpus)


def task(name: str) -> Task:
    return Task(1, name, TaskKind.WAKE, 1, Cause(CauseKind.OPERATOR, "x"), Plan(()), 0.0)


@BOUNDED
@given(tenancies(), BYTES)
def test_whatever_is_admitted_fits_beside_everything_that_was_promised(tenancy, margin):
    """All wakes under way take the rest of their need, then the admitted one its own: no GPU runs over, and the margin
    stays. What a wake took already is not kept free a second time."""
    count, models, _, waking, _ = tenancy
    gpus = see(*tenancy)
    records, tasks = {n: m[0] for n, m in models.items()}, {n: task(n) for n in waking}
    for name in sorted(models.keys() - waking):
        needs = wake_needs(records[name], gpus)
        promised = promised_bytes(records, tasks, {}, gpus, but=name)
        rest = {u: sum(models[n][1][u] - models[n][2][u] for n in waking if u in models[n][1]) for u in UUIDS[:count]}
        assert all(promised.get(u, 0) == rest[u] for u in rest)
        if preflight(needs, gpus, margin, promised) == Admitted():
            for gpu in gpus:
                need = needs.get(gpu.uuid, 0)
                assert need == 0 or gpu.free_bytes - rest[gpu.uuid] - need >= margin
        else:
            assert any(g.free_bytes - rest[g.uuid] - margin < needs.get(g.uuid, 0) for g in gpus)


@BOUNDED
@given(BYTES, BYTES, st.lists(BYTES, max_size=6), BYTES)
def test_a_jobs_reservation_is_kept_until_the_job_took_it_whoever_else_moves(reserved, then, steps, managed):
    """The job grows and shrinks; models come and go beside it. What it holds and what is kept for it is never less than
    its reservation, nor more than it and what it took beyond."""
    reservation = Reservation("r", "job", ("GPU-0",), reserved, {"GPU-0": then})
    models = {"a": record("a", seen=Known(ModelSeen(FACTS, is_sleeping=True, pids=(1,)), 0.0, 0.0))}
    for grown in steps:
        used = {STRANGER: then + grown, 1: managed}
        gpu = GpuSeen("GPU-0", 0, 4 * TOTAL, 4 * TOTAL - sum(used.values()), used)
        assert unmanaged_bytes(gpu, (1,)) == then + grown
        assert left_beside(models, [reservation], gpu) + grown == max(reserved, grown)
    blind = GpuSeen("GPU-0", 0, 4 * TOTAL, TOTAL)
    assert left_beside(models, [reservation], blind) == reserved, "unseen growth gives nothing away"


JOBS = st.lists(st.tuples(st.integers(1, 9), st.floats(0.0, 1.0)), min_size=1, max_size=4)


@BOUNDED
@given(JOBS, st.lists(st.tuples(st.integers(0, 3), st.floats(0.0, 1.0)), max_size=8), BYTES)
def test_what_several_jobs_reserved_on_a_gpu_is_theirs_together_however_each_grows_and_shrinks(jobs, moves, others):
    """Granted one after the other while those before take and give back; nobody takes more than it reserved."""
    held: dict[int, int] = {1: others}
    standing: dict[str, Reservation] = {}

    def seen() -> GpuSeen:
        return GpuSeen("GPU-0", 0, 100 * TOTAL, 100 * TOTAL - sum(held.values()), dict(held))

    def kept() -> int:
        return promised_bytes({}, {}, standing, (seen(),), but="")["GPU-0"]

    for number, (size, share) in enumerate(jobs):
        then = unmanaged_bytes(seen(), ())
        reservation = Reservation(f"r{number}", "job", ("GPU-0",), size, {"GPU-0": then}, granted_as=number + 1)
        standing[reservation.id] = reservation
        held[STRANGER + number] = round(size * share)
    for number, share in moves:
        if number < len(jobs):
            held[STRANGER + number] = round(jobs[number][0] * share)
            taken = sum(bytes_ for pid, bytes_ in held.items() if pid != 1)
            assert kept() == sum(r.bytes_per_gpu for r in standing.values()) - taken


@BOUNDED
@given(st.dictionaries(st.sampled_from(UUIDS), BYTES, min_size=1), st.data())
def test_reservations_of_all_jobs_add_up_on_each_gpu(bytes_per_gpu, data):
    jobs = {
        f"r{i}": Reservation(f"r{i}", "job", (uuid,), b, {uuid: data.draw(BYTES)})
        for i, (uuid, b) in enumerate(bytes_per_gpu.items())
    }
    gpus = tuple(GpuSeen(u, i, TOTAL, TOTAL, {}) for i, u in enumerate(UUIDS))
    assert promised_bytes({}, {}, jobs, gpus, but="") == dict(bytes_per_gpu)


@BOUNDED
@given(st.lists(st.tuples(BYTES, BYTES), min_size=1, max_size=12))
def test_a_need_is_the_most_of_the_last_five_and_no_sample_lowers_it_below_another(samples):
    footprint = Footprint()
    for freed, taken in samples:
        before = footprint.need("GPU-0") or 0
        footprint = replace(
            footprint,
            freed=added(footprint.freed, {"GPU-0": freed}),
            taken=added(footprint.taken, {"GPU-0": taken}),
        )
        need = footprint.need("GPU-0")
        assert need is not None
        assert need >= max(freed, taken)
        assert footprint.need("GPU-0", 2) >= need
        if len(footprint.freed["GPU-0"]) < 5:
            assert need >= before
    last = samples[-5:]
    assert footprint.need("GPU-0") == max(max(f, t) for f, t in last)


FOOTPRINTS = st.builds(
    Footprint,
    freed=st.dictionaries(st.sampled_from(UUIDS), st.lists(BYTES, min_size=1, max_size=5).map(tuple)),
    backups=st.lists(BYTES, max_size=3).map(tuple),
    durations=st.dictionaries(st.sampled_from(("sleep1", "wake1")), st.lists(BYTES, min_size=1, max_size=5).map(tuple)),
    host_pinned=st.booleans(),
    pinned_bytes=BYTES,
    under=st.just("x"),
)


@BOUNDED
@given(FOOTPRINTS, FOOTPRINTS)
def test_a_prior_fills_gaps_and_overrules_nothing(own, prior):
    learned = own.over(prior)
    for uuid in UUIDS:
        expected = own.need(uuid) if uuid in own.freed else prior.need(uuid)
        assert learned.need(uuid) == expected
    assert learned.host_bytes == (own.host_bytes if own.backups else prior.host_bytes)
    assert (learned.host_pinned, learned.pinned_bytes) == (own.host_pinned, own.pinned_bytes)


@BOUNDED
@given(st.lists(FOOTPRINTS, min_size=1, max_size=4))
def test_what_incarnations_taught_is_kept_and_bounded_and_what_they_pinned_is_not(incarnations):
    prior = Footprint()
    for footprint in incarnations:
        prior = footprint.retired(prior)
        for uuid, samples in footprint.freed.items():
            assert prior.freed[uuid][-len(samples) :] == samples
    assert all(len(samples) <= 5 for samples in (*prior.freed.values(), *prior.durations.values(), prior.backups))
    assert (prior.host_pinned, prior.pinned_bytes, prior.sleeps) == (False, 0, 0)


HOSTS = st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 20))
UNITS = st.none() | st.tuples(st.integers(0, 60), st.none() | st.integers(0, 60))


@BOUNDED
@given(HOSTS, UNITS, st.integers(0, 20), st.booleans(), st.integers(1, 2))
def test_no_admitted_backup_eats_into_the_reserve_or_over_a_limit(ram, memory, checkpoint, pinned, rounding):
    """Whatever the backup really takes, up to twice the checkpoint, what is left is the reserve and what others were
    promised; and no cgroup runs over."""
    available, reserve, promised = ram
    unit = None if memory is None else UnitMemory(memory[0], 0, True, memory[1], memory[0], "memory.max of x")
    seen = Known(ModelSeen(FACTS, unit_memory=unit), 0.0, 0.0)
    facts = replace(FACTS, checkpoint_bytes=checkpoint or None)
    of = record("a", seen=seen, facts=facts, footprint=Footprint(host_pinned=pinned))
    verdict = host_preflight(of, Known(HostSeen(100, available), 0.0, 0.0), None, reserve, promised, promised)
    takes = 0 if pinned else rounding * checkpoint
    if verdict == Admitted() and takes:
        assert available - takes >= reserve + promised
        assert unit is None or unit.limit_bytes is None or unit.used_bytes + promised + takes <= unit.limit_bytes
    if isinstance(verdict, HostShort):
        assert verdict.wanted_bytes > verdict.found_bytes
