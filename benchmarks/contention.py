"""More models wanted than fit: sleepd's turns against three other rules, under the same load, in virtual time.

One GPU holds one model at a time. Durations are those of published vLLM logs (docs/performance.md): level 1, 75 GiB
down in 6.5 s once its backup is pinned, up in 1.5 s and 2.4 s. A request takes 4 s and shares the engine with others.
Clients give up after 120 s. All sides get the same requests at the same moments.

- switch per request: a lock around the GPU; one request at a time, its model loaded for it;
- first come, first served: the first in line has its model loaded; who follows in line for the same comes along;
- loaded model first: whatever comes for the loaded model is served, another is loaded once nothing is left of it, as
  llama-swap does it;
- sleepd with min_awake 60 s, as shipped, and with 10 s: its core, steps, looks and records as the simulator plays
  them. The others look at nothing and take no time but that of vLLM's own two calls.

Waits are until a request is let in; one that was turned away counts with the 120 s it might have waited. Ratios are
to sleepd as shipped. Beside the p95 of all requests stands that of the model whose clients wait longest: who is rarely
asked for is not seen in the first.

With --strays, sleepd alone with settings of their own for the two models that are rarely asked for.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from contention_side.curves import draw
from contention_side.load import Arrival, Outcome, alternating, strays, zipf
from contention_side.others import OTHERS
from contention_side.ours import Sleepd
from figures import percentile

from sleepd.core.model import ModelSpec

DOWN_S, UP_S = 6.5, (1.5, 2.4)
MAX_WAIT_S = 120.0
SHIPPED = ModelSpec("", "", min_awake_s=60.0, max_wait_s=MAX_WAIT_S)
MIN_AWAKES_S = (60.0, 10.0)
OF_STRAYS = {
    "all as shipped": SHIPPED,
    "strays: min_awake 10 s": replace(SHIPPED, min_awake_s=10.0),
    "strays: min_awake 10 s, priority 1": replace(SHIPPED, min_awake_s=10.0, priority=1),
}
LOADS = {"alternating, 2 models": alternating, "Zipf, 6 models": zipf, "strays, 3 models": strays}
COLUMNS = (
    *("load", "rule", "served an hour (ratio)", "p50 s", "p95 s (ratio)", "p95 s of the worst model"),
    *("worst s", "switches an hour", "refused"),
)
RATES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
BUSY_RATES = RATES[3:]
"""From one request in five seconds on: the busy model is mostly in use."""


def up_s(name: str) -> float:
    return UP_S[(ord(name) - ord("a")) % 2]


def play(names: tuple[str, ...], arrivals: list[Arrival], until_s: float) -> list[Outcome]:
    """Every side under the same load, sleepd first."""
    outcomes = []
    for min_awake_s in MIN_AWAKES_S:
        specs = dict.fromkeys(names, replace(SHIPPED, min_awake_s=min_awake_s))
        outcomes.append(Sleepd(specs, DOWN_S, up_s, f"sleepd, min_awake {min_awake_s:g} s").play(arrivals, until_s))
    others = [rule(names, lambda _, to: DOWN_S + up_s(to), MAX_WAIT_S) for rule in OTHERS]
    return outcomes + [other.play(arrivals, until_s) for other in others]


def play_strays(names: tuple[str, ...], arrivals: list[Arrival], until_s: float) -> list[Outcome]:
    """sleepd with each setting of the strays, first as shipped. The busy model is as shipped always."""
    busy, *others = names
    return [
        Sleepd({busy: SHIPPED, **dict.fromkeys(others, theirs)}, DOWN_S, up_s, side).play(arrivals, until_s)
        for side, theirs in OF_STRAYS.items()
    ]


@dataclass(frozen=True, slots=True)
class Waits:
    """How long requests waited at one side, in seconds."""

    p50_s: float
    p95_s: float
    worst_s: float
    worst_model_p95_s: float

    @staticmethod
    def of(outcome: Outcome) -> "Waits":
        by_model = outcome.waits_by_model(MAX_WAIT_S)
        waits_s = [wait_s for of_model in by_model.values() for wait_s in of_model]
        p50_s, p95_s, worst_s = (percentile(waits_s, share) for share in (0.5, 0.95, 1.0))
        return Waits(p50_s, p95_s, worst_s, max(percentile(of_model, 0.95) for of_model in by_model.values()))


def show(heading: str, rate: float, outcomes: list[Outcome], hours: float) -> None:
    ours, our_waits = outcomes[0], Waits.of(outcomes[0])
    for outcome in outcomes:
        waits, served = Waits.of(outcome), outcome.served
        refused = outcome.in_vain.total()
        cells = (
            f"{heading}, {rate:g}/s",
            outcome.side,
            f"{served / hours:.0f} ({_ratio(served, ours.served)})",
            f"{waits.p50_s:.1f}",
            f"{waits.p95_s:.1f} ({_ratio(waits.p95_s, our_waits.p95_s)})",
            f"{waits.worst_model_p95_s:.1f}",
            f"{waits.worst_s:.0f}",
            f"{outcome.switches / hours:.0f}",
            f"{100 * refused / (served + refused):.1f} %",
        )
        print(f"| {' | '.join(cells)} |")


def _ratio(found: float, ours: float) -> str:
    return f"{found / ours:.2f}" if ours else "–"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="virtual minutes of each load, and four more in which nobody comes"
    )
    parser.add_argument("--svg", type=Path, help="write the curves there")
    parser.add_argument("--strays", action="store_true", help="settings of the strays' own, and nothing else")
    options = parser.parse_args()
    asked_s = options.minutes * 60.0
    print(f"| {' | '.join(COLUMNS)} |")
    print(f"|{'---|' * len(COLUMNS)}")
    if options.strays:
        for rate in BUSY_RATES:
            outcomes = play_strays(*strays(rate, asked_s), asked_s + 2 * MAX_WAIT_S)
            show("strays, 3 models", rate, outcomes, asked_s / 3600.0)
        return 0
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for heading, draw_load in LOADS.items():
        for rate in RATES:
            outcomes = play(*draw_load(rate, asked_s), asked_s + 2 * MAX_WAIT_S)
            show(heading, rate, outcomes, asked_s / 3600.0)
            for outcome in outcomes:
                waits = Waits.of(outcome)
                for panel, wait_s in ((heading, waits.p95_s), (f"{heading}: worst model", waits.worst_model_p95_s)):
                    panels.setdefault(panel, {}).setdefault(outcome.side, []).append((rate, wait_s))
    if options.svg is not None:
        draw(panels, MAX_WAIT_S, options.svg)
    return 0


if __name__ == "__main__":
    sys.exit(main())
