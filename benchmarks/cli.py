"""What `sleepctl status` costs from its start to its end, against `systemctl --version` in the same run.

The commands take turns, one start each a round; the wall time is what a person waits, the CPU time what the machine
spends. `sleepctl status` asks a real `sleepd run` with some models that nobody serves. Where there is no systemctl,
`/bin/true` stands in for it, and that is said. `python -c pass` beside them is what no program in Python can undercut
here; `-S` leaves out what the installed packages do at every start.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from figures import describe_machine, percentile
from rig import ROOT, Failed, Wire, process, scratch, wait_until

GOAL_MS = 60.0
MODELS = 8
_WITHOUT_SITE = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from sleepd.cli.ctl import main; sys.exit(main())"


def main() -> int:
    """Exit status: 0 measured and the goal met, 1 the goal missed, 2 it could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="starts of each command (default %(default)s)")
    parser.add_argument("--imports", action="store_true", help="print what its imports cost instead (-X importtime)")
    options = parser.parse_args()
    try:
        with scratch(None) as folder:
            return _measure(options, folder)
    except (Failed, OSError) as error:
        print(f"cli: {error}", file=sys.stderr)
        return 2


def _measure(options: argparse.Namespace, folder: Path) -> int:
    socket, state = folder / "s", folder / "state"
    (folder / "etc").mkdir()
    models = "".join(f'[models.model-{n}]\nurl = "unix:{folder}/{n}.sock"\ngpus = ["0"]\n' for n in range(MODELS))
    text = f'[daemon]\nstate_dir = "{state}"\n[api]\nsocket = "{socket}"\n{models}'
    (folder / "etc" / "sleepd.toml").write_text(text)
    command = (sys.executable, "-m", "sleepd.cli.daemon", "run", "--config", str(folder / "etc"))
    with (folder / "log").open("w") as lines, process(*command, stderr=lines) as running:

        def ready() -> bool:
            if running.poll() is not None:
                raise Failed((folder / "log").read_text()[-2000:])
            try:
                return Wire(f"unix:{socket}").call("GET", "/readyz").status == 200
            except OSError:
                return False

        wait_until("the daemon to be ready", ready)
        if options.imports:
            words = (sys.executable, "-X", "importtime", "-m", "sleepd.cli.ctl", "--socket", str(socket), "status")
            return os.spawnv(os.P_WAIT, words[0], words)
        return _compare(options.rounds, socket)


def _compare(rounds: int, socket: Path) -> int:
    python, sleepctl = sys.executable, str(Path(sys.executable).with_name("sleepctl"))
    systemctl = shutil.which("systemctl")
    other = "systemctl --version" if systemctl else "/bin/true (there is no systemctl here)"
    commands = {
        other: (systemctl, "--version") if systemctl else ("/bin/true",),
        "python -S -c pass": (python, "-S", "-c", "pass"),
        "python -c pass": (python, "-c", "pass"),
        "sleepctl --version": (sleepctl, "--version"),
        "sleepctl status": (sleepctl, "--socket", str(socket), "status"),
        "sleepctl status, python -S": (python, "-S", "-c", _WITHOUT_SITE, "--socket", str(socket), "status"),
    }
    # As after an installation, which compiles: the first start below writes what the others read.
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environ["PYTHONPYCACHEPREFIX"] = str(socket.parent / "compiled")
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for words in commands.values():
        _run(words, environ)  # what has to come from the disk comes now
    for number in range(rounds):
        order = list(commands.items())
        for name, words in order if number % 2 else reversed(order):
            took[name].append(_run(words, environ))
    print(f"machine     {describe_machine()}")
    print(f"            load {os.getloadavg()[0]:.1f}, {rounds} rounds, {MODELS} models in the answer\n")
    print(f"{'':<40}{'wall p50':>10}{'p99':>10}{'CPU p50':>10}   wall against {other.split(' (')[0]}")
    base = percentile([wall for wall, _ in took[other]], 0.5)
    for name, costs in took.items():
        wall, cpu = [w for w, _ in costs], [c for _, c in costs]
        p50, p99 = percentile(wall, 0.5), percentile(wall, 0.99)
        print(f"{name:<40}{_ms(p50)}{_ms(p99)}{_ms(percentile(cpu, 0.5))}   {p50 / base:.1f}")
    ours = percentile([wall for wall, _ in took["sleepctl status"]], 0.5) * 1e3
    met = ours <= GOAL_MS
    print(f"\ngoal        sleepctl status in {GOAL_MS:g} ms wall, p50: {'met' if met else 'missed'} ({ours:.0f} ms)")
    return 0 if met else 1


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:7.1f} ms"


def _run(words: Sequence[str], environ: Mapping[str, str]) -> tuple[float, float]:
    """Start the command, wait for its end, and return its wall and CPU seconds. Raises Failed where it fails."""
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    started_s = time.perf_counter()
    pid = os.posix_spawn(words[0], list(words), environ, file_actions=silent)
    _, status, used = os.wait4(pid, 0)
    wall_s = time.perf_counter() - started_s
    if status:
        raise Failed(f"{' '.join(words)} ended with status {os.waitstatus_to_exitcode(status)}")
    return wall_s, used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
