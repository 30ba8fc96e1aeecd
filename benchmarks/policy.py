"""Which policy makes how many wait, for how many GiB-hours of GPU memory: all of them on the same traffic and hosts.

Every policy plays days 0 to 14 and is judged on days 7 to 14: those that learn have had a week, and go on learning.
Traffic: subsets of the trace that --trace names, and made-up traffic of other habits (sleepd/sim/traffic.py), one of
each for every seed. Hosts: 80 GiB with 8 models, two of 80 GiB with 16, 24 GiB with 6; sizes are drawn by the seed.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple, TextIO
from unittest.mock import patch

from figures import describe_machine
from policy_answers import print_answers
from policy_chart import draw_curves
from policy_sums import BASE, Key, Run, Sum, add_up, ratio, told_seeds

from sleepd.config.load import PACKAGED_DIR
from sleepd.core import limits
from sleepd.core.units import GIB
from sleepd.replay.hosts import Costs, Host, HostGpu, bundled_host
from sleepd.replay.policies.base import Policy
from sleepd.replay.policies.clairvoyant import Clairvoyant, least_gpu_gib_h
from sleepd.replay.policies.histogram import Histogram
from sleepd.replay.policies.windows import Windows
from sleepd.replay.shell import Replay
from sleepd.replay.stage import set_stage
from sleepd.replay.trace import Trace, read_trace
from sleepd.sim.traffic import make_traffic

DAY_S = 86400.0
BEGIN_WALL_S = 1767571200.0
ETC = Path(__file__).parents[1] / "etc"
RULE = '[[rules]]\nname = "nap"\nwhen = {{ idle = "{idle}" }}\nthen = {{ sleep = 1 }}\n'
NO_RULE = '[[rules]]\nname = "nap"\nenabled = false\nwhen = { idle = "5m" }\nthen = { sleep = 1 }\n'
Make = Callable[[Trace, Host], Policy]


@dataclass(frozen=True, slots=True)
class Contender:
    """Rules as a file would write them, and what asks for sleeps and wakes beside them."""

    rules: str
    make: Make = field(default=lambda trace, host: Policy())
    actions_an_hour: int = limits.ACTIONS_AN_HOUR


def _clairvoyant(trace: Trace, host: Host) -> Policy:
    return Clairvoyant(trace, {model: host.costs(model) for model in trace.models})


FORESIGHT = (ETC / "conf.d" / "foresight.toml.example").read_text()
WRITTEN = "5m"
"""The idle time that the example of foresight names, in both of its rules."""
FORESEEN = ("1m", "5m", "15m", "1h", "3h")
"""What it is turned to: the points of foresight's line."""
UNLIMITED = 1 << 30

CONTENDERS: Mapping[str, Contender] = {
    "while-it-fits": Contender(NO_RULE),
    **{f"ttl-{idle}": Contender(RULE.format(idle=idle)) for idle in ("1m", "5m", "15m", "30m")},
    **{
        f"ttl-{idle}-unlimited": Contender(RULE.format(idle=idle), actions_an_hour=UNLIMITED)
        for idle in ("1m", "90s", "5m")
    },
    **{f"foresight-{idle}": Contender(FORESIGHT.replace(WRITTEN, idle)) for idle in FORESEEN},
    "windows": Contender(NO_RULE, lambda trace, host: Windows()),
    "histogram": Contender(NO_RULE, lambda trace, host: Histogram()),
    "clairvoyant": Contender(NO_RULE, _clairvoyant),
}
"""More are added here: a policy that is made of rules needs nothing but the rules."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A host, how many models it has, and the sizes that they are drawn from."""

    name: str
    gpus: int
    gpu_gib: int
    models: int
    awake_gib: tuple[int, ...]


SHAPES = (
    Shape("1x80", 1, 80, 8, (16, 24, 36)),
    Shape("2x80", 2, 80, 16, (16, 24, 36)),
    Shape("1x24", 1, 24, 6, (7, 9, 12)),
)


def draw_host(shape: Shape, models: Sequence[str], random: Random) -> Host:
    """A host of this shape; times follow the sizes as docs/vllm.md tells them of real servers."""
    bundled = bundled_host()
    gpus = tuple(HostGpu(f"GPU-{n}", n, shape.gpu_gib * GIB) for n in range(shape.gpus))
    return Host(
        gpus,
        ram_bytes=1 << 40,
        used_bytes=16 * GIB,
        watts=bundled.watts,
        default=bundled.default,
        costs_of={name: _draw_costs(random.choice(shape.awake_gib), bundled.default) for name in models},
    )


def _draw_costs(awake_gib: int, like: Costs) -> Costs:
    weights_gib = 0.45 * awake_gib
    return Costs(
        awake_bytes=awake_gib * GIB,
        asleep_bytes=GIB // 2,
        backup_bytes=round(weights_gib * GIB),
        sleep1_s=0.3 + 0.06 * weights_gib,
        sleep2_s=0.3,
        wake1_s=0.3 + 0.06 * weights_gib,
        wake2_s=1.0 + 0.6 * weights_gib,
        gpus=1,
        prompt_tokens_per_s=like.prompt_tokens_per_s,
        output_tokens_per_s=like.output_tokens_per_s,
        slowdown=like.slowdown,
        slots=like.slots,
    )


@cache
def _read_once(path: Path) -> Trace:
    """The trace, once for all plays of a process: requests that stay, which nobody need look at again and again."""
    trace = read_trace(path)
    gc.freeze()
    return trace


def draw_traffic(shape: Shape, seed: int, trace: Trace | None, days: int) -> Trace:
    """Models of the trace, drawn by the seed, or made-up ones."""
    if trace is None:
        return make_traffic(seed, shape.models, days)
    drawn = Random(seed).sample(trace.models, min(shape.models, len(trace.models)))
    return trace.of(drawn).between(0.0, days * DAY_S)


def play(contender: str, shape: Shape, traffic: str, seed: int, path: Path | None, days: int) -> Run:
    """Play the whole of it and judge its second half."""
    trace = draw_traffic(shape, seed, _read_once(path) if path is not None else None, days)
    host = draw_host(shape, trace.models, Random(seed))
    rules, end_s = CONTENDERS[contender], days * DAY_S
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sleepd.toml").write_text(rules.rules)
        stage = set_stage(Path(folder), host, trace.models, shipped_dir=PACKAGED_DIR)
    policy, judged_s = rules.make(trace, host), end_s / 2
    replay = Replay(
        stage.settings,
        host,
        stage.servers(),
        trace,
        start_wall_s=BEGIN_WALL_S,
        policy=policy,
        judge_from_s=judged_s,
        end_s=end_s,
    )
    with patch.object(limits, "ACTIONS_AN_HOUR", rules.actions_an_hour):
        accounts = replay.run().models.values()
    costs = {model: host.costs(model) for model in trace.models}
    return Run(
        contender,
        shape.name,
        traffic,
        seed,
        served=sum(a.served for a in accounts),
        refused=sum(a.refused for a in accounts),
        waits_s=tuple(sorted(round(wait_s, 3) for a in accounts for wait_s in a.waits_s)),
        gpu_gib_h=sum(a.gpu_gib_s for a in accounts) / 3600,
        wakes=sum(sum(a.wakes.values()) for a in accounts),
        least_gib_h=least_gpu_gib_h(trace, costs, stage.gpus_of, judged_s, end_s),
    )


def print_table(name: str, sums: Mapping[str, Sum]) -> None:
    base = sums[BASE]
    print(f"\n{name}: {base.served} requests judged; without waits at least {base.least_gib_h:.0f} GiB-hours")
    print(f"  {'policy':22} {'waited':>14} {'p95 all':>8} {'p95 of these':>12} {'refused':>8} {'GiB-hours':>16}"
          f" {'wakes':>6}")  # fmt: skip
    for contender, found in sums.items():
        waited = f"{100 * found.waited / max(1, found.served):.2f}% x{ratio(found.waited, base.waited)}"
        hours = f"{found.gpu_gib_h:.0f} x{ratio(found.gpu_gib_h, base.gpu_gib_h)}"
        print(
            f"  {contender:22} {waited:>14} {found.p95_s:8.1f} {found.p95_waiting_s:12.1f} {found.refused:8}"
            f" {hours:>16} {found.wakes:6}"
        )


def parse(contenders: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, help="a trace of 14 days; without it, made-up traffic alone")
    parser.add_argument("--seeds", type=int, default=3, help="how many subsets, and how many made-up traces")
    parser.add_argument("--days", type=int, default=14, help="the second half of them is judged")
    parser.add_argument("--jobs", type=int, default=1, help="plays at once")
    names = [shape.name for shape in SHAPES]
    parser.add_argument("--host", action="append", choices=names, help="these hosts alone; repeat for more")
    parser.add_argument("--policy", action="append", choices=sorted(contenders), help="these alone; repeat for more")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the curves")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FILE",
        help="write every play to it as it ends, and play none that it has: keep to one trace and --days",
    )
    parser.add_argument("--kept", type=Path, metavar="FILE", help="play nothing: tell what this file kept of these")
    return parser.parse_args()


class Play(NamedTuple):
    """What play() is asked for."""

    contender: str
    shape: Shape
    traffic: str
    seed: int
    path: Path | None
    days: int

    @property
    def key(self) -> Key:
        return self.contender, self.shape.name, self.traffic, self.seed


def play_all(plays: Sequence[Play], jobs: int, keep: TextIO | None) -> list[Run]:
    """Play them, so many at once, and write each to `keep` as it ends: who is stopped half-way keeps seeds."""
    found: list[Run] = []
    with ProcessPoolExecutor(jobs) as pool:
        # The longest of each seed first. Time goes with requests: by host, and a trace has more than made-up traffic.
        order = sorted(plays, key=lambda each: (each.seed, -each.shape.models, each.path is None))
        for future in as_completed([pool.submit(play, *each) for each in order]):
            run = future.result()
            found.append(run)
            print(f"{len(found)} of {len(plays)}: {run.shape} {run.traffic} {run.contender}", file=sys.stderr)
            if keep is not None:
                print(json.dumps(asdict(run)), file=keep, flush=True)
    return found


def go_on(plays: Sequence[Play], jobs: int, path: Path) -> list[Run]:
    """Play those that the file does not have yet, and write each to it; return all that were asked for."""
    kept = {run.key: run for run in read_runs(path)} if path.exists() else {}
    asked = {each.key for each in plays}
    left = [each for each in plays if each.key not in kept]
    with path.open("w") as keep:
        for run in kept.values():
            print(json.dumps(asdict(run)), file=keep, flush=True)
        return [run for key, run in kept.items() if key in asked] + play_all(left, jobs, keep)


def read_runs(path: Path) -> list[Run]:
    """Return what a run before this one kept; its last line may be cut off."""
    whole = (line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n"))
    return [Run(**json.loads(line)) for line in whole]


def played_by_all(runs: Sequence[Run]) -> list[Run]:
    """Without the seeds that some contender did not play."""
    contenders = {run.contender for run in runs}
    played = Counter((run.shape, run.traffic, run.seed) for run in runs)
    return [run for run in runs if played[run.shape, run.traffic, run.seed] == len(contenders)]


def group(runs: Sequence[Run]) -> dict[str, dict[str, Sum]]:
    """Sums by host and sort of traffic, and in each by contender."""
    groups: dict[str, dict[str, Sum]] = {}
    for traffic, shape in sorted({(run.traffic, run.shape) for run in runs}, key=_place):
        of = [run for run in runs if (run.shape, run.traffic) == (shape, traffic)]
        models = next(s.models for s in SHAPES if s.name == shape)
        seeds = told_seeds(len({run.seed for run in of}))
        groups[f"{shape}, {models} models, {traffic}, {seeds}"] = {
            contender: add_up([run for run in of if run.contender == contender])
            for contender in CONTENDERS
            if any(run.contender == contender for run in of)
        }
    return groups


def _place(named: tuple[str, str]) -> tuple[bool, int]:
    traffic, shape = named
    return traffic != "trace", [s.name for s in SHAPES].index(shape)


def _drawn(sums: Mapping[str, Sum]) -> dict[str, tuple[float, float]]:
    """Without the timeouts that differ from others by the limit of actions alone: the table has them."""
    return {contender: found.point for contender, found in sums.items() if not contender.endswith("-unlimited")}


def main() -> int:
    options = parse(tuple(CONTENDERS))
    shapes = [shape for shape in SHAPES if not options.host or shape.name in options.host]
    contenders = [c for c in CONTENDERS if not options.policy or c in options.policy or c == BASE]
    sorts: list[tuple[str, Path | None]] = [("made-up", None)]
    if options.trace is not None:
        sorts.insert(0, ("trace", options.trace))
    plays = [
        Play(contender, shape, traffic, seed, path, options.days)
        for traffic, path in sorts
        for shape in shapes
        for seed in range(options.seeds)
        for contender in contenders
    ]
    began_s = time.monotonic()
    if options.kept is not None:
        told = {(each.contender, each.shape.name, each.seed) for each in plays}
        kept = [run for run in read_runs(options.kept) if (run.contender, run.shape, run.seed) in told]
        runs = played_by_all(kept)
    else:
        runs = go_on(plays, options.jobs, options.keep) if options.keep else play_all(plays, options.jobs, None)
        print(f"{describe_machine()}; {len(runs)} plays, {options.jobs} at once: {time.monotonic() - began_s:.0f} s")
    groups = group(runs)
    for name, sums in groups.items():
        print_table(name, sums)
    print_answers(sorted(runs, key=lambda run: _place((run.traffic, run.shape))))
    if options.svg is not None:
        options.svg.write_text(draw_curves({n: _drawn(sums) for n, sums in groups.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
