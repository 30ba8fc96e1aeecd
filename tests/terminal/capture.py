"""The picture of `sleepctl top` in the documentation: `python -m tests.terminal.capture docs/img/top.svg`.

A real one: the demo runs, top is shown in tmux, and what stands on its screen becomes SVG, without anything from
elsewhere. It takes some minutes: at real speed, so that all its clocks agree.
"""

import re
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from tests.integration.waiting import wait_until
from tests.terminal.tmux import Tmux

WIDTH, HEIGHT = 100, 24
THEME = TerminalTheme(
    (13, 17, 23),
    (230, 237, 243),
    [
        *((72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34)),
        *((88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)),
    ],
)
FORMAT = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="sleepctl top">
<title>sleepctl top</title>
<style>
.{unique_id}-matrix {{ font: {char_height}px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
  line-height: {line_height}px; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}</defs>
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
<g transform="translate({terminal_x}, 16)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g></g></svg>
"""


def picture(coloured: str) -> str:
    """Return what a terminal shows, in its sequences, as SVG."""
    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    # One decoder for all lines: tmux tells what changes, also from one line to the next.
    for line in AnsiDecoder().decode(coloured):
        console.print(line, no_wrap=True, crop=True)
    return console.export_svg(title="sleepctl top", theme=THEME, code_format=FORMAT, unique_id="top")


def main(target: Path) -> None:
    demo = [sys.executable, "-m", "sleepd.cli.daemon", "demo", "--keep", "--speed", "1"]
    with subprocess.Popen(demo, stdout=subprocess.PIPE, text=True) as told, tempfile.TemporaryDirectory() as folder:
        try:
            assert told.stdout is not None
            found = next(found for line in told.stdout if (found := re.search(r"--socket (\S+)", line)))
            socket = found[1]
            wait_until(lambda: Path(socket).exists(), "the demo's daemon")
            with Tmux(Path(folder), WIDTH, HEIGHT, TERM="xterm-256color", SLEEPD_SOCKET=socket) as tmux:
                tmux.run(f"{sys.executable} -m sleepd.cli.ctl top")
                tmux.see("chat", "code", "search", "asleep L2", "sleep 1 in", "EVENTS", limit_s=300)
                target.write_text(picture(tmux.coloured()), encoding="utf-8")
                tmux.type("q")
        finally:
            told.terminate()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
