"""sleepctl's command line: the table of verbs as an argparse parser."""

from __future__ import annotations

import argparse
import math
import os
import sys

from sleepd import __version__
from sleepd.cli.screen import terminal_width
from sleepd.cli.verbs import COMMON, VERBS, Option, Verb
from sleepd.core.units import UnitError, parse_duration, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ABOUT = "See, wake and put to sleep what sleepd manages."


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options: `verb`, `models`, `all` and what the verb takes; `cmd` is what stands behind `--`, where
    the verb takes a CMD.

    Exits with 2 for a command line that is none, with 125 where there is a CMD that will not run for it.
    """
    parser = make_parser(argv)
    head, cmd = _split(list(argv))
    try:
        options = parser.parse_args(head)
        if cmd is not None and options.verb.models not in ("one", "job"):
            options, cmd = parser.parse_args(argv), None
        options.cmd = cmd
        _check(options)
    except SystemExit as ended:
        if cmd is not None and ended.code:
            raise SystemExit(125) from None
        raise
    return options


def _split(argv: list[str]) -> tuple[list[str], list[str] | None]:
    if "--" not in argv:
        return argv, None
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _check(options: argparse.Namespace) -> None:
    verb: Verb = options.verb
    parser: argparse.ArgumentParser = options.parser
    if verb.models == "some" and bool(options.models) == options.all:
        parser.error("wanted at least one MODEL, or --all and none")
    if verb.models not in ("one", "job"):
        return
    if options.cmd is not None and not options.cmd:
        parser.error("wanted a command behind --")
    if verb.models == "job":
        _check_reserve(options, parser)
        return
    ways = [options.cmd is not None, options.ttl is not None, options.release is not None]
    if sum(ways) != 1:
        parser.error("wanted one of these: MODEL -- CMD, MODEL --ttl D, --release ID")
    if (options.model is None) is not (options.release is not None):
        parser.error("wanted a MODEL" if options.release is None else "--release ID takes no MODEL")


def _check_reserve(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    ways = [options.cmd is not None, options.ttl is not None, options.end is not None]
    if sum(ways) > 1:
        parser.error("wanted one of these: -- CMD, --ttl D, --end ID, or none of them to keep it until interrupted")
    size = [options.gpu is not None, options.vram is not None]
    if options.end is None and not all(size):
        parser.error("wanted --gpu N[,N]... and --vram SIZE")
    if options.end is not None and any(size):
        parser.error("--end ID takes neither --gpu nor --vram")
    if options.no_wait and options.ttl is None:
        parser.error("--no-wait goes with --ttl: else nobody would keep it")


def make_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser for this command line: of one verb where it begins with that, else of all.

    Every parser and option that is made costs its part of a moment that somebody waits.
    """
    parser = argparse.ArgumentParser("sleepctl", description=ABOUT, allow_abbrev=False, formatter_class=_formatter)
    for option in COMMON:
        _add(parser, option, option.default)
    parser.add_argument("--version", action="version", version=f"sleepctl {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, prog="sleepctl")
    named = _first_word(argv)
    for verb in [verb for verb in VERBS if verb.name == named] or VERBS:
        added = commands.add_parser(
            verb.name,
            help=verb.help,
            description=verb.help,
            usage=usage_of(verb),
            allow_abbrev=False,
            formatter_class=_formatter,
        )
        added.set_defaults(verb=verb, parser=added, all=False)
        for option in COMMON:
            _add(added, option, argparse.SUPPRESS)
        for option in verb.options:
            _add(added, option, option.default)
        _add_models(added, verb)
    return parser


def _formatter(prog: str) -> argparse.HelpFormatter:
    # Without a width argparse looks for one with shutil, which costs more to import than all the rest of it.
    return argparse.HelpFormatter(prog, width=terminal_width(sys.stdout, os.environ) - 2)


def _first_word(argv: Sequence[str]) -> str:
    """Return the word that names the verb; empty where help on all of them is asked for, or there is none."""
    words = iter(argv)
    for word in words:
        if word in ("-h", "--help"):
            return ""
        if word == "--socket":
            next(words, "")
        elif not word.startswith("-"):
            return word
    return ""


def _add(parser: argparse.ArgumentParser, option: Option, default: object) -> None:
    if option.kind == "flag":
        chosen = default if default is argparse.SUPPRESS else False
        parser.add_argument(option.flag, action="store_true", default=chosen, help=option.help)
    elif option.kind == "file":
        shown = option.metavar.strip("[]")
        parser.add_argument(option.flag, nargs="?", const="-", default=default, metavar=shown, help=option.help)
    elif option.kind == "level":
        parser.add_argument(
            option.flag, type=int, choices=(1, 2), default=default, metavar=option.metavar, help=option.help
        )
    else:
        read = _READ[option.kind]
        parser.add_argument(option.flag, type=read, default=default, metavar=option.metavar, help=option.help)


def _add_models(parser: argparse.ArgumentParser, verb: Verb) -> None:
    if verb.models in ("some", "filter"):
        only = "only these; " if verb.models == "filter" else ""
        text = f'{only}a name, or a glob such as "chat-*"'
        parser.add_argument("models", metavar="MODEL", nargs="*", help=text)
    elif verb.models in ("one", "job"):
        if verb.models == "one":
            parser.add_argument("model", metavar="MODEL", nargs="?", help="which model")
        parser.epilog = "With -- CMD: the status is CMD's own; 125 sleepctl failed, 126 not executable, 127 not found."
    elif verb.tail:
        parser.add_argument("what", choices=verb.tail.split("|"), help="a shell, or names for a script of your own")


def usage_of(verb: Verb) -> str:
    """Return how the verb is written, a line for each way."""
    if verb.models == "one":
        ways = ("[OPTION]... MODEL -- CMD...", "[OPTION]... MODEL --ttl D", "--release ID")
        return "\n       ".join(f"sleepctl hold {way}" for way in ways)
    if verb.models == "job":
        size = "--gpu N[,N]... --vram SIZE"
        ways = (f"[OPTION]... {size} [-- CMD...]", f"[OPTION]... {size} --ttl D", "--end ID")
        return "\n       ".join(f"sleepctl reserve {way}" for way in ways)
    words = ["sleepctl", verb.name, "[OPTION]..." if verb.options else ""]
    words += [{"some": "MODEL...", "filter": "[MODEL...]"}.get(verb.models, ""), verb.tail]
    return " ".join(word for word in words if word)


def _seconds(text: str) -> float:
    return _at_most(text, 86_400.0, "1d")


def _long_seconds(text: str) -> float:
    return _at_most(text, 31_536_000.0, "365d")


def _at_most(text: str, most_s: float, shown: str) -> float:
    try:
        seconds = parse_duration(text)
    except UnitError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not math.isfinite(seconds) or seconds > most_s:
        raise argparse.ArgumentTypeError(f"wanted at most {shown}, found {text!r}")
    return seconds


def _size(text: str) -> int:
    try:
        found = parse_size(text)
    except UnitError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not 0 < found <= 1 << 50:
        raise argparse.ArgumentTypeError(f"wanted more than nothing and at most 1PiB, found {text!r}")
    return found


def _gpus(text: str) -> list[int | str]:
    """Return indices as numbers, UUIDs as they are."""
    named = [word.strip() for word in text.split(",")]
    if not all(named):
        raise argparse.ArgumentTypeError(f'wanted indices or UUIDs separated by commas, such as "0,1", found {text!r}')
    return [int(word) if word.isascii() and word.isdigit() else word for word in named]


_READ: dict[str, Callable[[str], object]] = {
    "text": str,
    "duration": _seconds,
    "long duration": _long_seconds,
    "size": _size,
    "list": _gpus,
}
