"""`python -m sleepd.sim.scenario 4711`, `… crowded-17` or `… FILE.json`: play one scenario and print what happens."""

import sys
from pathlib import Path

from sleepd.core.turn import Note
from sleepd.sim.scenario.play import play
from sleepd.sim.scenario.script import Act, Script, draw_crowded_script, draw_script, read_script
from sleepd.sim.scenario.stage import Stage

CROWDED = "crowded-"


def main(arguments: list[str]) -> int:
    """Exit status: 0 everything held, 1 an invariant was broken, 2 there is nothing to play."""
    if len(arguments) != 1:
        print("usage: python -m sleepd.sim.scenario SEED|crowded-SEED|FILE", file=sys.stderr)
        return 2
    try:
        script = _script(arguments[0])
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    for model in script.cast.models:
        print(f"{'':>10}  {model}")
    try:
        print(play(script, tell=_tell, show=_show).line)
    except AssertionError as error:
        print(error)
        return 1
    return 0


def _script(named: str) -> Script:
    if named.startswith(CROWDED) and named.removeprefix(CROWDED).isdigit():
        return draw_crowded_script(int(named.removeprefix(CROWDED)))
    return draw_script(int(named)) if named.isdigit() else read_script(Path(named))


def _tell(stage: Stage, note: Note) -> None:
    print(f"{stage.time.now():10.3f}  {note.kind:14} {note.model:6} {note.text}")


def _show(stage: Stage, act: Act) -> None:
    given = ", ".join(f"{key} {value}" for key, value in act.arguments.items() if value is not None)
    print(f"{stage.time.now():10.3f}  > {act.do} {act.model}: {given}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
