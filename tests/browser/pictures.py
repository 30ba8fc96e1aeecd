"""The pictures of docs/ui.md and of the report, of a demo that has run for an hour: `python -m tests.browser.pictures`.

Needs Debian's chromium and chromium-driver, and fonts-inter for the same letters. Takes about six minutes.
"""

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.browser.webdriver import driving

FOLDER = Path(__file__).parents[2] / "docs" / "img"
SIZE = (1400, 1000)
RUNS_S = 330.0


def main() -> None:
    """All three lie in docs/img."""
    command = [sys.executable, "-m", "sleepd.cli.daemon", "demo", "--keep"]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo,
        driving() as chromium,
        chromium.browser(SIZE) as browser,
    ):
        assert demo.stdout is not None
        socket = next(line for line in demo.stdout if "--socket" in line).split("--socket ")[1].split()[0]
        address = next(line for line in demo.stdout if line.startswith("in a browser")).split()[-1]
        browser.go(address)
        time.sleep(RUNS_S)
        browser.until_text("#models", "awake")
        for theme in ("light", "dark"):
            browser.run("localStorage.setItem('sleepd-theme', arguments[0]); location.reload()", theme)
            browser.until_text("#link", "live")
            time.sleep(3.0)
            if theme == "dark":
                browser.click("#models tr:nth-child(3) .name")
                browser.until_text("#detail .rules", "nap")
                time.sleep(1.0)
            else:
                browser.point("#models tr:nth-child(1) canvas", 60)
            browser.picture(FOLDER / f"page-{theme}.png")
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "report.html"
            ask = [sys.executable, "-m", "sleepd.cli.ctl", "--socket", socket, "report", "--html", str(report)]
            subprocess.run(ask, check=True)
            browser.go(report.as_uri())
            browser.picture(FOLDER / "report.png")
        demo.send_signal(signal.SIGINT)
        demo.communicate()


if __name__ == "__main__":
    main()
