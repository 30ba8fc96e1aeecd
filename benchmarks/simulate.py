"""How long `sleepd simulate` takes: one trace under the shipped rules, in seconds of one core.

    python benchmarks/simulate.py --trace multi-model-14d.csv.gz

Without --trace, made-up traffic of 32 models over so many days. Prints what was played with what it took, so that runs
on other machines and of other versions compare; the wakes tell whether both decided the same.
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
from sleepd.replay.trace import read_trace
from sleepd.sim.traffic import make_traffic

DAY_S = 86400.0
MODELS = 32
BEGIN_WALL_S = 1767571200.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, help="a trace; without it, made-up traffic")
    parser.add_argument("--days", type=int, default=14, help="play so many of its days")
    options = parser.parse_args()
    began_s = time.process_time()
    whole = make_traffic(1, MODELS, options.days) if options.trace is None else read_trace(options.trace)
    trace, host = whole.between(0.0, options.days * DAY_S), bundled_host()
    with tempfile.TemporaryDirectory() as folder:
        stage = set_stage(Path(folder), host, trace.models, shipped_dir=PACKAGED_DIR)
    replay = Replay(stage.settings, host, stage.servers(), trace, start_wall_s=BEGIN_WALL_S)
    read_s = time.process_time() - began_s
    accounts = replay.run().models.values()
    took_s = time.process_time() - began_s
    wakes = sum(sum(account.wakes.values()) for account in accounts)
    print(describe_machine())
    print(
        f"{options.days} days, {len(trace.models)} models, {len(trace.arrivals)} requests, {wakes} wakes, "
        f"{replay.turns} turns: {took_s:.1f} s of one core, {read_s:.1f} s of it to read the trace; "
        f"{1e6 * (took_s - read_s) / replay.turns:.0f} µs a turn"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
