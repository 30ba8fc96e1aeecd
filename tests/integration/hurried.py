"""`sleepd run` on a clock that runs SLEEPD_SPEED times as fast: the daemon itself, its hours pass in minutes."""

from __future__ import annotations

import os
import sys

from sleepd.adapters.clock import ScaledClock
from sleepd.cli.daemon import main
from sleepd.service import parts

if __name__ == "__main__":
    speed = float(os.environ["SLEEPD_SPEED"])
    parts.SystemClock = lambda: ScaledClock(speed)  # type: ignore[misc, assignment]
    sys.exit(main())
