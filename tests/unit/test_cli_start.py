"""sleepctl starts fast because of what it does not import."""

import subprocess
import sys

HEAVY = {"asyncio", "aiohttp", "pydantic", "typing_extensions", "structlog", "psutil", "rich", "sqlite3", "ssl"}
COSTLY = {"dataclasses", "inspect", "http.client", "email", "urllib", "decimal", "subprocess", "threading", "tempfile"}


def imported_by(*words: str) -> set[str]:
    """Return the modules that a sleepctl with these words has imported when it ends."""
    code = "import sys; from sleepd.cli.ctl import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "print(*sys.modules, file=sys.stderr)"
    # -S: what the site packages of this environment import at start is not sleepctl's doing.
    paths = [path for path in sys.path if path]
    ran = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {paths!r}\n{code}", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(ran.stderr.splitlines()[-1].split())


def test_status_imports_nothing_heavy() -> None:
    found = imported_by("--socket", "/nowhere", "status")
    assert "sleepd.cli.looks" in found
    assert not found & (HEAVY | COSTLY)


def test_no_verb_imports_the_async_world() -> None:
    for words in (["hold", "chat", "--", "true"], ["events"], ["explain", "chat"], ["completion", "bash"]):
        assert not imported_by("--socket", "/nowhere", *words) & HEAVY, words
