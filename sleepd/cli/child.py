"""Running a command as env(1) and timeout(1) do: its status is ours, and who tells us to end tells it."""

from __future__ import annotations

import errno
import os
import signal
import sys

from sleepd.cli.codes import BY_SIGNAL, NOT_EXECUTABLE, NOT_FOUND, OWN_FAILURE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
_NO_CHILD = {
    errno.ENOENT: NOT_FOUND,
    errno.ENOTDIR: NOT_FOUND,
    errno.EACCES: NOT_EXECUTABLE,
    errno.ENOEXEC: NOT_EXECUTABLE,
    errno.EISDIR: NOT_EXECUTABLE,
}
_FROM_KERNEL = 0x80
"""SI_KERNEL of sigaction(2): the terminal driver sent it, to the whole foreground group, CMD included."""


def run(cmd: list[str]) -> int:
    """Run the command to its end and return its status, or 126, 127 where it could not be run, 128+n for a signal.

    Meanwhile SIGTERM and SIGHUP, and SIGINT and SIGQUIT that are not from the terminal, become a SIGTERM for CMD.
    """
    waited = {*_ENDING, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    try:
        # Python ignores SIGPIPE and SIGXFSZ for itself; CMD must not inherit that.
        pid = os.posix_spawnp(
            cmd[0], cmd, os.environ, setsigmask=before, setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, *_ENDING)
        )
        return _wait(pid, waited)
    except OSError as error:
        print(f"sleepctl: {cmd[0]}: {error.strerror}", file=sys.stderr)
        return _NO_CHILD.get(error.errno or 0, OWN_FAILURE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(pid: int, waited: Iterable[int]) -> int:
    while True:
        told = signal.sigwaitinfo(waited)
        if told.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else BY_SIGNAL - code
        elif told.si_signo in (signal.SIGTERM, signal.SIGHUP) or told.si_code != _FROM_KERNEL:
            os.kill(pid, signal.SIGTERM)
