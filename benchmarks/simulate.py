"""How long `sleepd simulate` takes: one trace under the shipped rules, and under those of foresight, in CPU seconds.

    python benchmarks/simulate.py --trace multi-model-14d.csv.gz

Without --trace, made-up traffic of 32 models over so many days. Prints what was played with what it took, so that runs
on other machines and of other versions compare; the wakes tell whether both decided the same. Both are played in one
go, and their ratio is printed: of seconds taken on different days, or beside other work, only that tells anything.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from figures import describe_machine

from sleepd.config.load import PACKAGED_DIR
from sleepd.replay.hosts import bundled_host
from sleepd.replay.shell import Replay
from sleepd.replay.stage import set_stage
from sleepd.replay.trace import Trace, read_trace
from sleepd.sim.traffic import make_traffic

DAY_S = 86400.0
MODELS = 32
BEGIN_WALL_S = 1767571200.0
FORESIGHT = Path(__file__).parents[1] / "etc" / "conf.d" / "foresight.toml.example"


def play(trace: Trace, rules: str) -> tuple[Replay, int, float]:
    """Play it with these rules over the shipped ones; return what played it, the wakes, and the CPU seconds it took."""
    host = bundled_host()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sleepd.toml").write_text(rules)
        stage = set_stage(Path(folder), host, trace.models, shipped_dir=PACKAGED_DIR)
    replay = Replay(stage.settings, host, stage.servers(), trace, start_wall_s=BEGIN_WALL_S)
    began_s = time.process_time()
    accounts = replay.run().models.values()
    took_s = time.process_time() - began_s
    return replay, sum(sum(account.wakes.values()) for account in accounts), took_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, help="a trace; without it, made-up traffic")
    parser.add_argument("--days", type=int, default=14, help="play so many of its days")
    options = parser.parse_args()
    began_s = time.process_time()
    whole = make_traffic(1, MODELS, options.days) if options.trace is None else read_trace(options.trace)
    trace = whole.between(0.0, options.days * DAY_S)
    print(describe_machine())
    read_s = time.process_time() - began_s
    print(f"{options.days} days, {len(trace.models)} models, {len(trace.arrivals)} requests, read in {read_s:.1f} s")
    took = []
    for what, rules in (("shipped rules", ""), ("foresight", FORESIGHT.read_text())):
        replay, wakes, took_s = play(trace, rules)
        took.append(took_s)
        each_us = 1e6 * took_s / replay.turns
        print(f"{what}: {wakes} wakes, {replay.turns} turns, {took_s:.1f} s of one core, {each_us:.0f} µs a turn")
    print(f"foresight takes {took[1] / took[0]:.2f} times as long as the shipped rules")
    return 0


if __name__ == "__main__":
    sys.exit(main())
