"""The page in a browser, before the demo's daemon: getting in, looking, acting, losing the daemon and finding it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.accessible import what_is_wrong
from tests.browser.stages import Playground
from tests.browser.webdriver import DOWN, ENTER, ESCAPE, LIMIT_S, TAB, Browser

pytestmark = pytest.mark.browser

ROW = "#models tr:nth-child({})"
CHAT, CODE = ROW.format(1), ROW.format(2)
FOCUSED = "return document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText"


def log_in(browser: Browser, address: str) -> None:
    browser.go(address)
    browser.find(CHAT)
    browser.until_text("#link", "live")


def test_a_token_gets_in_once_and_a_wrong_one_never(browser: Browser, ground: Playground) -> None:
    address = ground.address()
    page, _, token = address.partition("#token=")
    browser.go(f"{page}#token=nonsense")
    browser.until_text("#login-problem", "this token is not good")
    assert "sleepctl ui-token" in browser.text("#login-problem")
    assert browser.run("return location.href") == page, "no token stays in the address"
    assert what_is_wrong(browser) == []
    browser.write("#token", "another guess")
    browser.press(ENTER)
    browser.until(lambda: browser.text("#login-problem").count("this token is not good") == 1, "the second refusal")
    browser.write("#token", token)
    browser.press(ENTER)
    browser.find(CHAT)
    assert "operator" in browser.text("#who")
    assert browser.run("return document.cookie") == "", "no script reads the session"
    refused = [line for line in browser.complaints() if "status of 401" not in line]
    assert refused == []
    browser.click("#log-out")
    browser.until(lambda: browser.run("return !document.getElementById('login').hidden"), "the login")
    browser.go(address)
    browser.until_text("#login-problem", "this token is not good")


def test_wake_and_sleep_by_button_and_told_as_it_happens(browser: Browser, ground: Playground) -> None:
    log_in(browser, ground.address())
    wake = f"{CHAT} button[aria-label='Wake chat']"
    browser.click(wake)
    browser.until_text("#events", "chat is waking: asked for by")
    browser.until_text(CHAT, "awake")
    browser.until_text("#said", "wake of chat ended: awake")
    assert "chat: wake of chat" not in browser.text("#events"), "a name is told once"
    browser.until_text(CODE, "asleep")  # it made room
    browser.click(f"{CHAT} button[aria-label='Sleep chat']")
    browser.until_text(CHAT, "asleep 1")
    browser.until_text(CHAT, "asked for by")
    assert browser.complaints() == []


def test_why_is_explained_and_everything_is_reached_by_keyboard(browser: Browser, ground: Playground) -> None:
    log_in(browser, ground.address())
    browser.run("document.querySelector(arguments[0]).focus()", f"{CHAT} .name")
    browser.press(DOWN)
    assert browser.run(FOCUSED) == "code"
    browser.press(TAB)
    assert re.fullmatch("(Wake|Sleep) code", browser.run(FOCUSED)) is not None
    browser.run("document.querySelector(arguments[0]).focus()", f"{CODE} .name")
    browser.press(ENTER)
    browser.until_text("#detail .rules", "nap sleep 1")
    told = browser.text("#detail")
    for wanted in ("host-ram-pressure", "idle: wanted idle 30s", "Verdict:", "Next:", "GPU 0", "50.5 GiB"):
        assert wanted in told
    browser.until_text("#detail .past", "asleep 1")
    assert re.search("rule nap|asked for by|makes room for", browser.text("#detail .past")) is not None
    assert what_is_wrong(browser) == []
    for _ in range(6):  # the focus stays within
        browser.press(TAB)
    assert browser.run("return document.activeElement.closest('dialog')?.id ?? document.activeElement.tagName") in (
        *("detail", "BODY"),
    )
    browser.press(ESCAPE)
    assert browser.run(FOCUSED) == "code", "the focus returns to where it came from"
    assert browser.complaints() == []


def test_hovering_tells_the_cause(browser: Browser, ground: Playground) -> None:
    log_in(browser, ground.address())
    browser.until_text(CHAT, "asleep")

    def told() -> bool:
        for x in (0, -1):  # an event of the pointer comes only where it moves
            half = browser.run("return document.querySelector(arguments[0]).clientWidth / 2", f"{CHAT} canvas")
            browser.point(f"{CHAT} canvas", int(half) - 2 + x)
        return "asked for by" in browser.text("#tip") and "chat: " in browser.text("#tip")

    browser.until(told, "a cause under the pointer")
    browser.press(ESCAPE)
    assert browser.text("#tip") == ""


def test_a_refusal_is_told_in_the_daemons_words(browser: Browser, ground: Playground) -> None:
    log_in(browser, ground.address())
    browser.click(f"{CHAT} .name")
    browser.click("#detail .acts button:nth-child(2)")
    browser.until_text("#problems", "Sleep at level 2 chat")
    assert what_is_wrong(browser) == []


def test_who_only_looks_has_no_buttons(browser: Browser, ground: Playground) -> None:
    log_in(browser, ground.address("viewer"))
    assert "viewer" in browser.text("#who")
    assert browser.run("return [...document.querySelectorAll('.c-act button')].every((each) => each.hidden)")
    browser.click(f"{CHAT} .name")
    browser.until_text("#detail .rules", "nap")
    assert browser.run("return document.querySelectorAll('#detail .acts button').length") == 0


def test_a_daemon_that_goes_is_missed_and_one_that_comes_is_found(browser: Browser, ground: Playground) -> None:
    log_in(browser, ground.address())
    browser.until(lambda: browser.text("#events"), "an event, after which none is missed")
    ground.stop_daemon()
    browser.until_text("#link", "connection lost")
    browser.until_text("#lost", "No word from the daemon since")
    assert browser.run("return document.getElementById('lost').getAttribute('role')") == "alert"
    ground.start_daemon()
    browser.until_text("#link", "live")
    assert browser.text("#lost") == ""
    assert "operator" in browser.text("#who"), "nobody logs in again"
    browser.until_text("#events", "the daemon began anew")
    browser.until_text(CHAT, "asleep 1")
    violations = [line for line in browser.complaints() if "Content Security Policy" in line]
    assert violations == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_read_in_both_lights(browser: Browser, ground: Playground, theme: str) -> None:
    log_in(browser, ground.address())
    browser.chrome("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
    assert browser.run("return getComputedStyle(document.documentElement).colorScheme") == theme
    assert what_is_wrong(browser) == []
    other = "dark" if theme == "light" else "light"
    for _ in range(2 if other == "dark" else 1):
        browser.click("#theme")
    assert browser.run("return getComputedStyle(document.documentElement).colorScheme") == other
    assert what_is_wrong(browser) == []


def test_the_demo_prints_where_its_page_is(browser: Browser, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sleepd.cli.daemon", "demo", "--keep", "--speed", "16"]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as demo:
        try:
            assert demo.stdout is not None
            told = next(line for line in demo.stdout if line.startswith("in a browser"))
            log_in(browser, told.split()[-1])
            browser.until_text("#events", "a request waits")
            browser.run("document.querySelector('input[value=day]').click()")
            browser.until_text("#facts", "asleep")
            assert browser.complaints() == []
        finally:
            demo.send_signal(signal.SIGINT)
            demo.communicate(timeout=LIMIT_S)
    assert demo.returncode == 0
