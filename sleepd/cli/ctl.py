"""`sleepctl`: the client. Answers go to stdout, refusals to stderr; the exit code says which it was."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from sleepd.cli.arguments import parse
from sleepd.cli.codes import DONE, INTERRUPTED, UNREACHABLE
from sleepd.cli.screen import clean
from sleepd.client import ApiProblem, Client, DaemonUnreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (docs/sleepctl.md)."""
    options = parse(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads has seen enough. Python would complain once more when it flushes stdout at its end.
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError:
            return DONE
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _run(options: argparse.Namespace) -> int:
    module, _, function = options.verb.command.partition(":")
    command = getattr(import_module(f"sleepd.cli.{module}"), function)
    try:
        code: int = command(Client(options.socket), options)
    except DaemonUnreachable as error:
        print(f"sleepctl: {clean(error)}", file=sys.stderr)
        return UNREACHABLE
    except ApiProblem as problem:
        from sleepd.cli.prose import report

        return report(problem, as_json=options.json)
    return code


if __name__ == "__main__":
    sys.exit(main())
