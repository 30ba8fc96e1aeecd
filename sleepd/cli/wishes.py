"""The verbs that want something done: for every model at once, each outcome told as it comes."""

from __future__ import annotations

import sys
from collections.abc import Callable

from sleepd.cli.choose import choose
from sleepd.cli.codes import DONE, REFUSED, TIMED_OUT, UNREACHABLE, USAGE
from sleepd.cli.prose import report, tell_outcome
from sleepd.cli.screen import clean, look_at, print_text
from sleepd.client import ApiProblem, Client, DaemonUnreachable, Reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import TypeAlias

    from sleepd.wire.answers import Outcome

    Act: TypeAlias = Callable[[str], Reply[Outcome]]
    Told: TypeAlias = Reply[Outcome] | ApiProblem | DaemonUnreachable

PARALLEL_LIMIT = 64


def wake(client: Client, options: argparse.Namespace) -> int:
    wait, timeout_s, force = not options.no_wait, options.timeout, options.force
    if options.dry_run:
        return _for_each(client, options, client.plan_wake)
    return _for_each(client, options, lambda name: client.wake(name, wait=wait, timeout_s=timeout_s, force=force))


def sleep(client: Client, options: argparse.Namespace) -> int:
    return _for_each(
        client,
        options,
        lambda name: client.sleep(
            name,
            level=options.level,
            drain_s=options.drain,
            force=options.force,
            via_wake=options.via_wake,
            wait=not options.no_wait,
            timeout_s=options.timeout,
        ),
    )


def stop(client: Client, options: argparse.Namespace) -> int:
    wait, timeout_s = not options.no_wait, options.timeout
    return _for_each(client, options, lambda name: client.stop(name, wait=wait, timeout_s=timeout_s))


def start(client: Client, options: argparse.Namespace) -> int:
    wait, timeout_s = not options.no_wait, options.timeout
    return _for_each(client, options, lambda name: client.start(name, wait=wait, timeout_s=timeout_s))


def reset(client: Client, options: argparse.Namespace) -> int:
    return _for_each(client, options, client.reset)


def pin(client: Client, options: argparse.Namespace) -> int:
    return _for_each(client, options, client.pin)


def unpin(client: Client, options: argparse.Namespace) -> int:
    return _for_each(client, options, client.unpin)


def reload(client: Client, options: argparse.Namespace) -> int:
    reply = client.reload()
    if options.json:
        print_text(reply.text)
    else:
        print("\n".join(clean(line) for line in reply.body["changed"]) or "nothing changed")
    return DONE


def _for_each(client: Client, options: argparse.Namespace, act: Act) -> int:
    """Ask for every model at once, tell each outcome as it comes, and return the worst code."""
    names = choose(client, options)
    # One is asked without a thread: they cost an import.
    only = names[0] if len(names) == 1 else None
    codes = _ask_all(names, act, options) if only is None else [_tell(only, _outcome(act, only), options)]
    return next((code for code in (UNREACHABLE, USAGE, REFUSED, TIMED_OUT) if code in codes), DONE)


def _ask_all(names: list[str], act: Act, options: argparse.Namespace) -> list[int]:
    import threading

    codes: list[int] = []
    lock = threading.Lock()

    def ask(name: str) -> None:
        outcome = _outcome(act, name)
        with lock:
            try:
                codes.append(_tell(name, outcome, options))
            except BrokenPipeError:
                return

    for start in range(0, len(names), PARALLEL_LIMIT):
        # Daemon threads: Ctrl-C ends the program at once, its connections break, and its wishes are withdrawn.
        threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names[start:][:PARALLEL_LIMIT]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if len(codes) < len(names):  # nobody reads the outcomes any more
        raise BrokenPipeError
    return codes


def _outcome(act: Act, name: str) -> Told:
    try:
        return act(name)
    except (ApiProblem, DaemonUnreachable) as refused:
        return refused


def _tell(name: str, outcome: Told, options: argparse.Namespace) -> int:
    if isinstance(outcome, DaemonUnreachable):
        print(f"sleepctl: {name}: {clean(outcome)}", file=sys.stderr)
        return UNREACHABLE
    if isinstance(outcome, ApiProblem):
        return report(outcome, name, as_json=options.json)
    if options.json:
        print_text(outcome.text)
    elif "plan" in outcome.body:
        from sleepd.cli.plan import tell_plan

        print("\n".join(tell_plan(name, outcome.body["plan"], look_at(sys.stdout))), flush=True)
    else:
        print(tell_outcome(options.verb.name, name, outcome.status, outcome.body), flush=True)
    return DONE
