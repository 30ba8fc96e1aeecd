"""The terminal: curses, signals, and nothing that decides. What it changed is put back whatever happens."""

from __future__ import annotations

import curses
import os
import select
import signal
import sys

from sleepd.cli.top.lines import cells

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType, TracebackType

    from sleepd.cli.top.lines import Line

_COLOURS = {"red": 1, "green": 2, "yellow": 3, "blue": 4, "magenta": 5, "cyan": 6}
_CLEAR_BLUE, _CHOSEN_GREY = 33, 237
"""Of 256 colours: a blue that is read on black too, and what the chosen line stands on."""
_ESCAPE_MS = 25
"""How long an escape waits for the rest of a key's sequence."""
_TYPED = {"\n": "enter", "\r": "enter", "\x1b": "esc", "\x7f": "backspace", "\b": "backspace"}
_KEYS = {
    curses.KEY_UP: "up",
    curses.KEY_DOWN: "down",
    curses.KEY_PPAGE: "pgup",
    curses.KEY_NPAGE: "pgdn",
    curses.KEY_HOME: "home",
    curses.KEY_END: "end",
    curses.KEY_BACKSPACE: "backspace",
    curses.KEY_ENTER: "enter",
    curses.KEY_F1: "f1",
    curses.KEY_F10: "f10",
}
_REDRAW = "\x0c"
_HEARD = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT, signal.SIGTERM, signal.SIGHUP)


class CannotShow(Exception):
    """There is no terminal, or it is one that cannot be drawn on; the message says what to do."""


def look_at_terminal() -> None:
    """Return where a screen can be drawn. Raises CannotShow."""
    instead = "use sleepctl status, or sleepctl events"
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CannotShow(f"wanted a terminal, found a file or a pipe; {instead}")
    name = os.environ.get("TERM", "")
    try:
        curses.setupterm(name, sys.stdout.fileno())
        moves = curses.tigetstr("cup")
    except curses.error as error:
        raise CannotShow(f'the terminal "{name}" is not known here ({error}): set TERM to one that is') from None
    if not moves:
        raise CannotShow(f'the terminal "{name}" cannot move its cursor; {instead}')


class Terminal:
    """A screen within `with`. `size` is its (width, height); `ended_by` the signal that told the program to end."""

    def __init__(self) -> None:
        self.ended_by: signal.Signals | None = None
        self._signals: list[signal.Signals] = []
        self._attributes: dict[str, int] = {}
        self._pairs: dict[tuple[int, int], int] = {}

    def __enter__(self) -> Terminal:
        self._woken, self._wakes = os.pipe()
        for end in (self._woken, self._wakes):
            os.set_blocking(end, False)
        curses.set_escdelay(_ESCAPE_MS)
        self._screen = curses.initscr()
        try:
            curses.noecho()
            curses.cbreak()
            self._screen.keypad(True)
            self._screen.nodelay(True)
            self._begin_colours()
            self._hide_cursor()
            self._before = {number: signal.signal(number, self._hear) for number in _HEARD}
            self._wakeup_before = signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
        except BaseException:
            self._put_back()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._put_back()

    @property
    def size(self) -> tuple[int, int]:
        height, width = self._screen.getmaxyx()
        return width, height

    def wake(self) -> None:
        """Let `wait` return; from any thread."""
        try:
            os.write(self._wakes, b"w")
        except OSError:  # the pipe is full, so it will return anyway; or it is over
            return

    def show(self, lines: Sequence[Line]) -> None:
        """The screen shows these lines; what did not change is not sent."""
        self._screen.erase()
        for row, line in enumerate(lines):
            column = 0
            for piece in line:
                try:
                    self._screen.addstr(row, column, piece.text, self._attribute(piece.tone))
                except curses.error:  # behind the last column of the last line there is no place for the cursor
                    break
                column += cells(piece.text)
        self._screen.refresh()

    def wait(self, limit_s: float) -> list[str]:
        """Return the keys that were pressed, at the latest when woken, told by a signal, or after `limit_s`."""
        ready, _, _ = select.select([sys.stdin, self._woken], [], [], limit_s)
        if self._woken in ready:
            os.read(self._woken, 4096)
        while self._signals:
            self._obey(self._signals.pop(0))
        keys = self._keys()
        if sys.stdin in ready and not keys and not os.isatty(sys.stdin.fileno()):
            self.ended_by = signal.SIGHUP  # the terminal is gone
        return keys

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            try:
                pressed = self._screen.get_wch()
            except curses.error:
                return keys
            if pressed == _REDRAW:
                self._screen.clearok(True)
            elif isinstance(pressed, str):
                keys.append(_TYPED.get(pressed, pressed))
            elif pressed in _KEYS:
                keys.append(_KEYS[pressed])

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._signals.append(signal.Signals(number))

    def _obey(self, number: signal.Signals) -> None:
        if number in (signal.SIGTERM, signal.SIGHUP):
            self.ended_by = number
            return
        if number is signal.SIGTSTP:
            self._stop()
        curses.reset_prog_mode()
        curses.update_lines_cols()
        width, height = os.get_terminal_size(sys.stdout.fileno())
        curses.resizeterm(max(1, height), max(1, width))
        self._screen.clearok(True)
        self._hide_cursor()

    def _stop(self) -> None:
        """The program was stopped as Ctrl-Z does it, the terminal as it was before; and it goes on."""
        curses.def_prog_mode()
        curses.endwin()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._hear)
        self._screen.refresh()

    def _begin_colours(self) -> None:
        self._coloured = curses.has_colors() and not os.environ.get("NO_COLOR")
        if self._coloured:
            curses.start_color()
            curses.use_default_colors()

    def _hide_cursor(self) -> None:
        try:
            curses.curs_set(0)
        except curses.error:  # a terminal that always shows it
            return

    def _attribute(self, tone: str) -> int:
        found = self._attributes.get(tone)
        if found is None:
            found = self._attributes[tone] = self._make_attribute(tone.split())
        return found

    def _make_attribute(self, words: list[str]) -> int:
        plain = {"bold": curses.A_BOLD, "dim": curses.A_DIM, "reverse": curses.A_REVERSE}
        plain["alert"] = curses.A_REVERSE | curses.A_BOLD
        attribute, colour, ground = 0, -1, -1
        for word in words:
            attribute |= plain.get(word, 0)
            colour = _COLOURS.get("red" if word == "alert" else word, colour)
            if word == "chosen":
                ground = _CHOSEN_GREY
        if ground != -1 and not (self._coloured and curses.COLORS >= 256):
            attribute, ground = attribute | curses.A_BOLD, -1
        if not self._coloured or (colour, ground) == (-1, -1):
            return attribute
        return attribute | curses.color_pair(self._pair(colour, ground))

    def _pair(self, colour: int, ground: int) -> int:
        if colour == _COLOURS["blue"] and curses.COLORS >= 256:
            colour = _CLEAR_BLUE
        if (colour, ground) not in self._pairs:
            self._pairs[(colour, ground)] = len(self._pairs) + 1
            curses.init_pair(self._pairs[(colour, ground)], colour, ground)
        return self._pairs[(colour, ground)]

    def _put_back(self) -> None:
        self._screen.keypad(False)
        curses.nocbreak()
        curses.echo()
        curses.endwin()
        wakes, self._wakes = self._wakes, -1  # threads that still run wake nobody
        os.close(self._woken)
        os.close(wakes)
