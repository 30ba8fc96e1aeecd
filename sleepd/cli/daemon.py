"""`sleepd`: the daemon and its companions. Each subcommand imports only what it needs."""

import argparse
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from sleepd import __version__

DONE, FAILED, USAGE = 0, 1, 2
INTERRUPTED = 130
DEFAULT_DIR = Path("/etc/sleepd")

COMMANDS = {
    "run": "the daemon, in the foreground",
    "check": "validate the configuration",
    "init": "look for vLLM servers on this host and write a first configuration",
    "demo": "the whole thing on simulated servers, without a GPU",
    "fake-vllm": "one simulated vLLM server",
    "simulate": "replay traffic against a configuration, in virtual time",
    "tune": "find timeouts and levels from past requests, for a stated target",
}
_ELSEWHERE = {
    "init": "sleepd.cli.init",
    "demo": "sleepd.sim.demo",
    "fake-vllm": "sleepd.cli.fake_vllm",
    "simulate": "sleepd.cli.simulate",
    "tune": "sleepd.cli.tune",
}
"""Commands with `add_arguments` and `run` in a module of their own, which is imported once they are chosen."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code: 0 done, 1 failed, 2 usage or configuration."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_stdout()
        return DONE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO) or error.filename is not None:
            raise
        _leave_stdout()
        print(f"sleepd: the output cannot be written: {error.strerror}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # what was under way stands on the line
        return INTERRUPTED
    return code


def _leave_stdout() -> None:
    """Nothing more goes there: Python would complain once more when it flushes it at its end."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(arguments: list[str]) -> int:
    options = make_parser(arguments[0] if arguments else "").parse_args(arguments)
    if options.subcommand == "run":
        return _run(options.config)
    if options.subcommand == "check":
        return _check(options.config, origins=options.origins)
    return int(import_module(_ELSEWHERE[options.subcommand]).run(options))


def _run(config_dir: Path) -> int:
    """Be the daemon until told to end."""
    # Somebody who changed the files says so while we start: that waits until it is listened to (service/process.py).
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from sleepd.config.errors import ConfigError

    service = import_module("sleepd.service.process")
    try:
        return int(service.run(config_dir))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return USAGE


def _check(config_dir: Path, *, origins: bool) -> int:
    """Print every error and warning of the configuration, or that there is none; with `origins`, what holds and why."""
    from sleepd.config.effective import write_origins
    from sleepd.config.errors import ConfigError
    from sleepd.config.load import load_config

    try:
        config = load_config(config_dir)
    except ConfigError as error:
        print(error, file=sys.stderr)
        count = len(error.problems)
        print(f"sleepd check: {count} error{'s' if count > 1 else ''}", file=sys.stderr)
        return USAGE
    for warning in config.warnings:
        print(f"{warning.place}: warning: {warning.message}", file=sys.stderr)
    if origins:
        print(write_origins(config.effective), end="")
        return DONE
    rules = {rule.name for rule in config.settings.rules}
    counts = []
    for count, what in ((len(config.settings.models), "model"), (len(rules), "rule"), (len(config.files), "file")):
        counts.append(f"{count} {what}{'' if count == 1 else 's'}")
    print(f"ok: {counts[0]}, {counts[1]} from {counts[2]}")
    return DONE


def make_parser(chosen: str = "") -> argparse.ArgumentParser:
    """Return the parser; a command with a module of its own has its options only where it is the chosen one."""
    parser = argparse.ArgumentParser(
        "sleepd", description="Puts idle vLLM servers to sleep and wakes them on demand, on one Linux host."
    )
    parser.add_argument("--version", action="version", version=f"sleepd {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="subcommand")
    for name, about in COMMANDS.items():
        added = commands.add_parser(name, help=about, description=about)
        if name in ("run", "check"):
            added.add_argument("--config", type=Path, default=DEFAULT_DIR, metavar="DIR", help=f"default {DEFAULT_DIR}")
        if name == "check":
            told = "print each effective value and the file it comes from, as a file of its own"
            added.add_argument("--origins", action="store_true", help=told)
        if name == chosen and name in _ELSEWHERE:
            import_module(_ELSEWHERE[name]).add_arguments(added)
    return parser


if __name__ == "__main__":
    sys.exit(main())
