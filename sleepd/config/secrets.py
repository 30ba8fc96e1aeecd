"""Files that hold keys: nobody but their owner may read them, and what stands in them is never shown."""

import base64
import os
import re
import ssl
import stat

from sleepd.config.errors import Place, Problem

SECRET_LIMIT = 64 << 10
KEY_LINE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._@-]{0,62}):(?P<key>[!-~]{8,256})")


class SecretError(ValueError):
    """The file cannot be used. Its message says what was wanted and what to do, and shows nothing of its content."""


def read_secret(path: str) -> str:
    """Return the text of a file that only its owner may read. Raises SecretError."""
    try:
        # Without O_NONBLOCK the opening of a pipe waits for somebody to write into it.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise SecretError(f"wanted a file at {path}, found something else")
            if found.st_mode & 0o077:
                mode = stat.S_IMODE(found.st_mode)
                raise SecretError(f"wanted mode 0600 of {path}, found {mode:04o}: others can read it; chmod 600 {path}")
            raw = file.read(SECRET_LIMIT + 1)
    except OSError as error:
        raise SecretError(f"{path} cannot be read: {error.strerror}") from None
    if len(raw) > SECRET_LIMIT:
        raise SecretError(f"wanted at most 64KiB in {path}, found more")
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise SecretError(f"wanted ASCII text in {path}, found other bytes") from None


def read_key(path: str) -> str:
    """Return the one key that a file holds. Raises SecretError."""
    words = read_secret(path).split()
    if len(words) != 1:
        raise SecretError(f"wanted one key in {path}, found {len(words) or 'none'}")
    return words[0]


def read_webhook_secret(path: str) -> bytes:
    """Return the key that signs a webhook's messages. Raises SecretError.

    Written as Standard Webhooks has it: "whsec_" and base64 of 24 to 64 bytes.
    """
    wanted = f"wanted whsec_ and 24 to 64 bytes in base64 in {path}"
    how = 'found something else (not shown); make one: echo "whsec_$(head -c 32 /dev/urandom | base64)"'
    key = read_key(path)
    try:
        secret = base64.b64decode(key.removeprefix("whsec_"), validate=True)
    except ValueError:
        secret = b""
    if not key.startswith("whsec_") or not 24 <= len(secret) <= 64:
        raise SecretError(f"{wanted}, {how}")
    return secret


def read_api_keys(path: str) -> tuple[dict[str, str], tuple[Problem, ...]]:
    """Return the keys of a file of "name:key" lines by name, and what is wrong with other lines. Raises SecretError.

    Empty lines and lines that begin with # say nothing. A name may have several keys, so that a key can be changed
    without an outage: they are told apart as name, name#2 and so on.
    """
    names_by_key: dict[str, str] = {}
    problems = []
    for number, line in enumerate(read_secret(path).splitlines(), 1):
        written = line.strip()
        if not written or written.startswith("#"):
            continue
        found = KEY_LINE.fullmatch(written)
        if not found:
            told = "wanted name:key with a key of 8 to 256 printable characters, found something else (not shown)"
            problems.append(Problem(Place(path, number), told))
        elif found["key"] in names_by_key:
            told = f"the key of {found['name']} is also the key of {names_by_key[found['key']]}"
            problems.append(Problem(Place(path, number), told))
        else:
            names_by_key[found["key"]] = found["name"]
    if not names_by_key and not problems:
        problems.append(Problem(Place(path), "wanted at least one line name:key, found none"))
    return names_by_key, tuple(problems)


def check_ca(path: str) -> None:
    """Raise SecretError where the file holds no certificates."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise SecretError(f"wanted a file at {path}, found something else")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise SecretError(f"wanted PEM certificates in {path}, found none") from None
    except OSError as error:
        raise SecretError(f"{path} cannot be read: {error.strerror}") from None
