"""The kit's real vLLM (docs/real-vllm.md) on a clean Debian: the program `vllm` that the unit finds in /opt/vllm/bin.

It serves a tiny model, whatever model it is asked for; all other words it gets are vLLM's to read. A clean Debian lacks
one library of its CPU build's, which is lent with it.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from sleepd.sim.ledger import Ledger, LedgerGpu
from tests.package.machine import LEDGER
from tests.realvllm.server import ROOT, RealServer, find_install

MODEL = "tiny-1"
LIBRARY = "libnuma.so.1"
LIBRARIES = "/srv/libraries"
DROP_IN = """[Service]
# The kit lies where only root may look.
User=root
Group=sleepd
ProtectHome=no
"""


def program(scratch: Path) -> str:
    """The script. What the unit says comes last, and holds. Makes `scratch`."""
    scratch.mkdir()
    server = RealServer("unset", scratch, Ledger.create(scratch, [LedgerGpu("unset", 1)]), model=MODEL)
    variables = server.variables | {"SLEEPD_LEDGER": str(LEDGER), "LD_LIBRARY_PATH": LIBRARIES}
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
    command = shlex.join(server.command(find_install()))
    return f'#!/bin/bash\n# vllm serve MODEL WORDS...\n{exports}\nshift 2\nexec {command} "$@"\n'


def lend(shared: Path) -> Iterator[Path]:
    """What the machine must see of this one; the library is put into the folder that it sees as /srv."""
    (library,) = Path("/usr/lib").glob(f"*/{LIBRARY}")
    (folder := shared / Path(LIBRARIES).name).mkdir()
    shutil.copy(library, folder)
    yield ROOT
    install = find_install()
    yield install.resolve()
    # An environment's python leads to the one that it was made with.
    made_with = (install / "venv" / "bin" / "python").resolve().parents[1]
    if made_with != Path("/usr"):
        yield made_with
