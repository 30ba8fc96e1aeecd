"""`sleepd run` whose call to sleep leaves only once it is let go: between the last look at an idle engine and that call
somebody else's request can reach it.

The file named by SLEEPD_DAWDLE is made when the call is about to leave; it leaves when somebody has taken it away.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

from sleepd.adapters.vllm_http import VllmServer
from sleepd.cli.daemon import main
from sleepd.core.plan import Verb
from sleepd.service import servers

FILE = Path(os.environ["SLEEPD_DAWDLE"])


def dawdle() -> None:
    FILE.touch()
    while FILE.exists():
        time.sleep(0.01)


class DawdlingServer(VllmServer):
    async def call(self, verb: Verb, *arguments: Any, **options: Any) -> Any:
        if verb is Verb.SLEEP_L1:
            await asyncio.to_thread(dawdle)
        return await super().call(verb, *arguments, **options)


if __name__ == "__main__":
    servers.VllmServer = DawdlingServer  # type: ignore[misc]
    sys.exit(main())
