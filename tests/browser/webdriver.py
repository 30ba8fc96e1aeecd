"""A browser driven over the WebDriver protocol (w3.org/TR/webdriver2), by the standard library alone.

The driver is Debian's chromium-driver, the browser Debian's chromium, headless, with a profile of its own.
"""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

LIMIT_S = 30.0
ENTER, ESCAPE, TAB, DOWN = "\ue007", "\ue00c", "\ue004", "\ue015"
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The name of an element's reference on the wire (w3.org/TR/webdriver2/#elements)."""
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-color-profile=srgb"),
)


class Refused(Exception):
    """The driver says no; `kind` is the protocol's word for it."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class Browser:
    """One window. Waits are bounded by `LIMIT_S`."""

    def __init__(self, address: str, profile: Path, size: tuple[int, int]) -> None:
        self._address = address
        arguments = [*_FLAGS, f"--user-data-dir={profile}", f"--window-size={size[0]},{size[1]}"]
        options = {"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": options}})
        self._address += f"/session/{made['sessionId']}"

    def go(self, url: str) -> None:
        self._call("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """Return what the body of a function returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str, *arguments: object) -> Any:
        """Return what the script gives to its last argument, a function."""
        return self._call("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def find(self, selector: str) -> dict[str, str]:
        """Return the first element that fits, once there is one."""
        return self.until(lambda: self._find(selector), f"an element {selector}")

    def click(self, selector: str) -> None:
        self._call("POST", f"/element/{self.find(selector)[_ELEMENT]}/click", {})

    def write(self, selector: str, text: str) -> None:
        """Put the text into a field, in place of what stands there."""
        element = self.find(selector)[_ELEMENT]
        self._call("POST", f"/element/{element}/clear", {})
        self._call("POST", f"/element/{element}/value", {"text": text})

    def press(self, *keys: str) -> None:
        """Press and let go of each key, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._call("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def point(self, selector: str, x: int = 0, y: int = 0) -> None:
        """Put the pointer over an element, so far from its middle."""
        move = {"type": "pointerMove", "duration": 0, "origin": self.find(selector), "x": x, "y": y}
        self._call("POST", "/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": [move]}]})

    def text(self, selector: str) -> str:
        """Return what the first element that fits shows; empty where it is not shown."""
        script = "const at = document.querySelector(arguments[0]); return at?.checkVisibility() ? at.innerText : ''"
        return str(self.run(script, selector))

    def until(self, look: Callable[[], T | None], what: str) -> T:
        """Return what `look` returns, once it is true. Raises AssertionError after LIMIT_S."""
        end_s = time.monotonic() + LIMIT_S
        while time.monotonic() < end_s:
            found = look()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"waited {LIMIT_S:g} s for {what}; the page says:\n{self.text('body')[:2000]}")

    def until_text(self, selector: str, wanted: str) -> None:
        self.until(lambda: wanted in self.text(selector), f"{wanted!r} in {selector}")

    def chrome(self, command: str, **parameters: object) -> Any:
        """Return what a command of the Chrome DevTools protocol answers."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def complaints(self) -> list[str]:
        """Return what the console has said since it was asked last: errors, violations of the policy, failed loads."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def close(self) -> None:
        self._call("DELETE", "")

    def _find(self, selector: str) -> dict[str, str] | None:
        try:
            found: dict[str, str] = self._call("POST", "/element", {"using": "css selector", "value": selector})
        except Refused as refused:
            if refused.kind != "no such element":
                raise
            return None
        return found

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._address + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=2 * LIMIT_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            told = json.load(error)["value"]
            raise Refused(told["error"], told["message"].partition("\n")[0]) from None


class Chromium:
    """Makes browsers; one driver serves them all."""

    def __init__(self, address: str) -> None:
        self._address = address

    @contextmanager
    def browser(self, size: tuple[int, int] = (1400, 900)) -> Iterator[Browser]:
        with tempfile.TemporaryDirectory(prefix="sleepd-browser-", ignore_cleanup_errors=True) as profile:
            browser = Browser(self._address, Path(profile), size)
            try:
                yield browser
            finally:
                browser.close()


@contextmanager
def driving() -> Iterator[Chromium]:
    """The driver runs. Raises AssertionError where it is not installed."""
    driver = shutil.which("chromedriver")
    assert driver, "wanted Debian's packages chromium and chromium-driver, found no chromedriver"
    with subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = next(line.split()[-1].rstrip(".") for line in process.stdout if "successfully on port" in line)
            yield Chromium(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
