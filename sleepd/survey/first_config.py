"""A first configuration of the servers that were found, in observe mode: what is written, and why, as a text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sleepd.config.toml_text import write_comment, write_key, write_value
from sleepd.config.urls import UrlError, parse_url
from sleepd.core.dialect import level1_unsafe, level2_unsafe
from sleepd.doctor.servers import DEV_MODE, UNTRUSTED, read_switch
from sleepd.survey.asking import Told
from sleepd.survey.processes import FoundProcess, is_exposed, is_fenced

_HEAD = """\
# Written by sleepd init, {when}, from the servers that ran then. It is yours to change.
# After a change: sleepd check, then sleepctl reload. All keys: man sleepd.toml

# Rules only tell what they would do (sleepctl explain MODEL); requests and operators still act. Take these two lines
# out to let the rules act too.
[daemon]
mode = "observe"
"""


@dataclass(frozen=True, slots=True)
class Found:
    """One server, all that is known of it, and the name that the configuration gives it.

    `gpus` are those on which its processes hold memory, by index, and must be given where neither a unit nor a cgroup
    tells which processes those are; `guessed` where nothing told and GPU 0 is assumed.
    """

    name: str
    process: FoundProcess
    told: Told
    gpus: tuple[str, ...] = ()
    guessed: bool = False

    @property
    def says(self) -> str:
        """In a few words: what it is and what it does."""
        told, process = self.told, self.process
        state = {True: "asleep", False: "awake", None: ""}[told.is_sleeping]
        words = [f"vLLM {told.facts.version}" if told.facts else "does not say what it is", state]
        where = process.unit or ("in a container" if process.in_container else "")
        return ", ".join(word for word in (*words, where, f"pid {process.pid} of {process.user}") if word)


def name_servers(servers: Sequence[tuple[FoundProcess, Told]]) -> tuple[str, ...]:
    """Return a name for each, all different: what it serves; of the same by several, their units; then numbers."""
    wanted = [_slug(next(iter(_served(told)), found.arguments.name)) for found, told in servers]
    often = Counter(wanted)
    names: list[str] = []
    for (found, _), slug in zip(servers, wanted, strict=True):
        instance = _slug(found.unit.removesuffix(".service").partition("@")[2]) if found.unit else ""
        name = instance if often[slug] > 1 and instance != "model" and instance else slug
        number = 2
        while name in names:
            name, number = f"{slug[:58]}-{number}", number + 1
        names.append(name)
    return tuple(names)


def _served(told: Told) -> tuple[str, ...]:
    return told.facts.served_names if told.facts else ()


def _slug(served: str) -> str:
    """The last part of the name, of the characters that names have; "model" where nothing is left."""
    last = served.rstrip("/").rpartition("/")[2].lower()
    return re.sub(r"[^a-z0-9._-]+", "-", last).strip("._-")[:63] or "model"


def write_config(found: Sequence[Found], *, when: str) -> str:
    """Return the file. It passes `sleepd check`, whatever was found."""
    shared = shared_names(found)
    return "\n".join([_HEAD.format(when=when), *("\n".join(_section(one, shared)) + "\n" for one in found)])


def shared_names(found: Sequence[Found]) -> frozenset[str]:
    """Names that several servers say they serve."""
    often = Counter(name for one in found for name in _served(one.told))
    return frozenset(name for name, count in often.items() if count > 1)


def _section(one: Found, shared: frozenset[str]) -> Iterator[str]:
    yield from write_comment(f"{one.says}.")
    for sentence in missing(one, shared):
        yield from write_comment(f"MISSING: {sentence}")
    keys, asides = _keys(one), _asides(one)
    if "url" not in keys:
        yield "# Not managed: no address of it that sleepd could use was found. Set url, and take the # away."
        yield from (f"# {line}" for line in (f"[models.{write_key(one.name)}]", 'url = ""', *_lines(keys, asides)))
        return
    yield f"[models.{write_key(one.name)}]"
    yield from _lines(keys, asides)
    for sentence in _on_levels(one, fenced=bool(keys.get("fenced"))):
        yield from write_comment(sentence)


def _lines(keys: Mapping[str, object], asides: Mapping[str, str]) -> Iterator[str]:
    width = max((len(key) for key in keys), default=0)
    for key, value in keys.items():
        aside = f"  # {asides[key]}" if key in asides else ""
        yield f"{key:{width}} = {write_value(value)}{aside}"


def _keys(one: Found) -> dict[str, object]:
    process, keys = one.process, dict[str, object]()
    try:
        address = parse_url(one.told.url)
    except UrlError:
        address = None
    if address is not None:
        keys["url"] = address.text
        if not address.local:
            keys["allow_exposed"] = True
    if process.unit:
        keys["unit"] = process.unit
    elif process.own_cgroup:
        keys["cgroup"] = process.own_cgroup
    if one.gpus:
        keys["gpus"] = list(one.gpus)
    if is_fenced(one.told.url):
        keys["fenced"] = True
    return keys


def _asides(one: Found) -> dict[str, str]:
    asides = {"allow_exposed": "whoever reaches it can put it to sleep: there is no password for that"}
    if one.guessed:
        asides["gpus"] = "a guess: nothing told on which GPU it is"
    if one.process.in_container:
        asides["cgroup"] = "of this container, and gone with it: see man sleepd, sleepd init"
    if one.process.cgroup.startswith("user.slice/"):
        asides["cgroup"] = "of a user's own service manager, which sleepd cannot ask to start or stop it"
    return asides


def missing(one: Found, shared: frozenset[str]) -> Iterator[str]:
    """What stands in the way of letting it sleep, or of doing so safely, each with what to do."""
    told, process, facts = one.told, one.process, one.told.facts
    environ = process.environ or {}
    if told.silent:
        yield f"{told.url or 'its address'}: {told.silent}." + _reach(one)
    if told.dev_mode is False or (told.dev_mode is None and environ and not read_switch(environ, DEV_MODE)):
        yield "it has no sleep endpoints. Start it with VLLM_SERVER_DEV_MODE=1 in its environment."
    told_so = facts.sleep_mode if facts is not None else None
    elsewhere = process.arguments.value("--config") != ""
    if told_so is False or (told_so is None and not elsewhere and not process.arguments.has("--enable-sleep-mode")):
        yield "it cannot sleep. Start it with --enable-sleep-mode."
    if told.locked:
        yield (
            "it wants its --api-key for /v1. Put the key into a file of mode 0600 that belongs to the user sleepd, and "
            "set api_key_file."
        )
    exposed = is_exposed(process, told.url)
    if exposed is not False:
        reach = (
            "may be reached from other hosts" if exposed else "may be within reach of other hosts, which is not known"
        )
        yield (
            f"{told.url} {reach}, and the sleep endpoints have no password (--api-key does not cover them). "
            "Start it with --uds PATH or --host 127.0.0.1."
        )
    if not process.unit:
        yield "it is no unit of systemd, so sleepd cannot restart it when nothing else helps. See vllm@.service."
    for name in sorted(shared.intersection(_served(told))):
        yield (
            f"others serve {name} too: a request that says so goes to one of them; its own name {one.name} always "
            "means this one. Give each a --served-model-name of its own."
        )


def _reach(one: Found) -> str:
    """What may help where it did not answer."""
    if "Permission denied" in one.told.silent:
        return " Run this as root, and let the daemon's user connect there."
    if UNTRUSTED in one.told.silent:
        return " The host's name in url must be one that it is for."
    if one.process.in_container:
        return " In a container: publish its port on 127.0.0.1, or mount a folder for its socket (--uds)."
    if not one.told.url:
        return " Give it --uds PATH, or a --port of its own."
    return " It may still be loading; sleepctl status tells when it answers."


def _on_levels(one: Found, *, fenced: bool) -> Iterator[str]:
    facts = one.told.facts
    if facts is None:
        return
    if unsafe := level1_unsafe(facts, fenced=fenced):
        yield f"It will not be put to sleep: {unsafe}."
    elif unsafe := level2_unsafe(facts, fenced=fenced):
        yield f"Level 1 is safe here; level 2 is not: {unsafe}."
    else:
        yield "Level 2, which frees host RAM too, may be safe here. With max_level = 2 it is checked once, when idle."
