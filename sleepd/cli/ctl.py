"""`sleepctl`: the client. Answers go to stdout, refusals to stderr; the exit code says which it was."""

import argparse
import contextlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from sleepd import __version__
from sleepd.cli.prose import tell_event, tell_explanation, tell_outcome, tell_problem
from sleepd.cli.screen import clean, look_at
from sleepd.cli.table import render_status
from sleepd.client import DEFAULT_SOCKET, ApiProblem, Client, DaemonUnreachable, Reply
from sleepd.core.units import UnitError, parse_duration

DONE, REFUSED, USAGE, UNREACHABLE, TIMED_OUT = 0, 1, 2, 3, 4
INTERRUPTED = 130
PARALLEL_LIMIT = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (docs/api.md, "sleepctl")."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.needs_models and bool(options.models) == options.all:
        parser.error(f"{options.name}: wanted at least one MODEL, or --all and none")
    try:
        code = _run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Who reads has seen enough. Python would complain once more when it flushes stdout at its end.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _run(options: argparse.Namespace) -> int:
    command: Callable[[Client, argparse.Namespace], int] = options.command
    try:
        return command(Client(options.socket), options)
    except DaemonUnreachable as error:
        print(f"sleepctl: {clean(error)}", file=sys.stderr)
        return UNREACHABLE
    except ApiProblem as problem:
        return _report(problem, options)


def show_status(client: Client, options: argparse.Namespace) -> int:
    reply = client.status()
    if options.json:
        _print_text(reply.text)
        return DONE
    body = reply.body
    if options.models:
        chosen = _match(options.models, [model["name"] for model in body["models"]])
        body = body | {"models": [model for model in body["models"] if model["name"] in chosen]}
    print("\n".join(render_status(body, look_at(sys.stdout), time.time())))
    return DONE


def wake(client: Client, options: argparse.Namespace) -> int:
    wait, timeout_s = not options.no_wait, options.timeout
    return _for_each(
        client, options, "wake", lambda name: client.wake(name, wait=wait, timeout_s=timeout_s, force=options.force)
    )


def sleep(client: Client, options: argparse.Namespace) -> int:
    return _for_each(
        client,
        options,
        "sleep",
        lambda name: client.sleep(
            name,
            level=options.level,
            drain_s=options.drain,
            wait=not options.no_wait,
            timeout_s=options.timeout,
            force=options.force,
        ),
    )


def reset(client: Client, options: argparse.Namespace) -> int:
    return _for_each(client, options, "reset", client.reset)


def explain(client: Client, options: argparse.Namespace) -> int:
    for index, name in enumerate(_choose(client, options)):
        reply = client.explain(name)
        if options.json:
            _print_text(reply.text)
        else:
            print("\n".join(([""] if index else []) + tell_explanation(reply.body, look_at(sys.stdout))))
    return DONE


def show_events(client: Client, options: argparse.Namespace) -> int:
    screen = look_at(sys.stdout)
    for event in client.events(options.since, follow=not options.no_follow):
        name = event.get("model")
        if options.models and event["kind"] != "gap" and not any(fnmatchcase(name or "", m) for m in options.models):
            continue
        print(json.dumps(event, ensure_ascii=False) if options.json else tell_event(event, screen), flush=True)
    return DONE


def reload(client: Client, options: argparse.Namespace) -> int:
    reply = client.reload()
    if options.json:
        _print_text(reply.text)
    else:
        print("\n".join(clean(line) for line in reply.body["changed"]) or "nothing changed")
    return DONE


def is_awake(client: Client, options: argparse.Namespace) -> int:
    """Quiet: 0 where every model is awake, 1 where one is not or is unknown."""
    states = [client.model(name).body["state"] for name in _choose(client, options)]
    return DONE if all(state == "awake" for state in states) else REFUSED


def _for_each(client: Client, options: argparse.Namespace, verb: str, act: Callable[[str], Reply]) -> int:
    """Ask for every model at once, tell each outcome as it comes, and return the worst code."""
    names = _choose(client, options)
    codes: list[int] = []
    lock = threading.Lock()

    def ask(name: str) -> None:
        try:
            outcome: Reply | ApiProblem | DaemonUnreachable = act(name)
        except (ApiProblem, DaemonUnreachable) as refused:
            outcome = refused
        with lock, contextlib.suppress(BrokenPipeError):
            codes.append(_tell(verb, name, outcome, options))

    for start in range(0, len(names), PARALLEL_LIMIT):
        # Daemon threads: Ctrl-C ends the program at once, its connections break, and its wishes are withdrawn.
        threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names[start:][:PARALLEL_LIMIT]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if len(codes) < len(names):  # nobody reads the outcomes any more
        raise BrokenPipeError
    return next((code for code in (UNREACHABLE, USAGE, REFUSED, TIMED_OUT) if code in codes), DONE)


def _tell(verb: str, name: str, outcome: Reply | ApiProblem | DaemonUnreachable, options: argparse.Namespace) -> int:
    if isinstance(outcome, DaemonUnreachable):
        print(f"sleepctl: {name}: {clean(outcome)}", file=sys.stderr)
        return UNREACHABLE
    if isinstance(outcome, ApiProblem):
        return _report(outcome, options, name)
    if options.json:
        _print_text(outcome.text)
    else:
        print(tell_outcome(verb, name, outcome.status, outcome.body), flush=True)
    return DONE


def _report(problem: ApiProblem, options: argparse.Namespace, subject: str = "") -> int:
    if options.json:
        _print_text(problem.text)
    print("\n".join(tell_problem(problem, subject)), file=sys.stderr)
    if problem.errors:
        return USAGE
    return TIMED_OUT if problem.kind == "timeout" else REFUSED


def _print_text(text: str) -> None:
    print(text.rstrip("\n"), flush=True)


def _choose(client: Client, options: argparse.Namespace) -> list[str]:
    """Return the models that were meant; only globs and --all ask the daemon for its list."""
    if not options.all and not any(set("*?[") & set(pattern) for pattern in options.models):
        return list(dict.fromkeys(options.models))
    names = [model["name"] for model in client.models().body["models"]]
    return names if options.all else _match(options.models, names)


def _match(patterns: list[str], names: list[str]) -> list[str]:
    """Return the names each pattern means. Raises ApiProblem where one means none."""
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            body = {"kind": "unknown_model", "title": "no such model", "detail": f"no model matches {pattern}"}
            raise ApiProblem(404, body | {"hint": f"there are: {', '.join(names) or 'none'}"}, json.dumps(body))
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration(text)
    except UnitError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not math.isfinite(seconds) or seconds > 86_400:
        raise argparse.ArgumentTypeError(f"wanted at most 1d, found {text!r}")
    return seconds


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    shown = f"default $SLEEPD_SOCKET, else {DEFAULT_SOCKET}"
    common.add_argument("--socket", metavar="PATH", default=argparse.SUPPRESS, help=shown)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="exactly what the API answered")
    parser = argparse.ArgumentParser("sleepctl", description="See, wake and put to sleep what sleepd manages.")
    parser.add_argument("--socket", metavar="PATH", default=None, help=shown)
    parser.add_argument("--json", action="store_true", help="exactly what the API answered")
    parser.add_argument("--version", action="version", version=f"sleepctl {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[Client, argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[common])
        added.set_defaults(command=command, name=name, needs_models=False)
        return added

    def take_models(of: argparse.ArgumentParser) -> None:
        of.add_argument("--all", action="store_true", help="every model")
        of.add_argument("models", metavar="MODEL", nargs="*", help='a name, or a glob such as "chat-*"')
        of.set_defaults(needs_models=True)

    def take_waiting(of: argparse.ArgumentParser) -> None:
        of.add_argument("--no-wait", action="store_true", help="return once the task is accepted")
        of.add_argument("--timeout", type=_seconds, default=600.0, metavar="D", help='such as "90s"; default 10m')
        of.add_argument("--force", action="store_true", help="needs the role admin")

    status = add("status", show_status, "what every model does, and why")
    status.add_argument("models", metavar="MODEL", nargs="*", help="only these; globs allowed")
    waking = add("wake", wake, "wake models and wait until they are awake")
    sleeping = add("sleep", sleep, "put models to sleep and wait until they are")
    sleeping.add_argument("--level", type=int, choices=(1, 2), default=1, help="1 keeps the weights in RAM; default 1")
    sleeping.add_argument("--drain", type=_seconds, default=0.0, metavar="D", help="how long a busy model may finish")
    resetting = add("reset", reset, "take failed models back into service")
    explaining = add("explain", explain, "every rule of a model: what holds, what is missing, when it fires")
    asking = add("is-awake", is_awake, "quiet: exit 0 where all are awake, 1 where one is not")
    for with_models in (waking, sleeping, resetting, explaining, asking):
        take_models(with_models)
    for with_waiting in (waking, sleeping):
        take_waiting(with_waiting)
    events = add("events", show_events, "what happened, and what happens from now on")
    events.add_argument("models", metavar="MODEL", nargs="*", help="only these; globs allowed")
    events.add_argument("--since", metavar="ID", help="only what came after this event")
    events.add_argument("--no-follow", action="store_true", help="end after what is on record")
    add("reload", reload, "let sleepd read its configuration anew")
    return parser


if __name__ == "__main__":
    sys.exit(main())
