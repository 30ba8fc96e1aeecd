"""`sleepctl wake --dry-run`: who would sleep and why, what the GPUs would have, what the wake does; in 80 columns."""

from __future__ import annotations

from sleepd.cli.columns import Columns
from sleepd.cli.screen import Screen, clean
from sleepd.core.units import format_duration, format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sleepd.wire.plans import PlannedGpu, Victim, WakePlan

INDENT = 2


def tell_plan(name: str, plan: WakePlan, screen: Screen) -> list[str]:
    """Return what a wake would do and why, in lines no longer than the screen is wide."""
    lines = screen.wrap(f"{name}: {_headline(plan)}", 0)
    if plan["victims"]:
        heads = ("MAKES ROOM", "LEVEL", "PRIO", "IDLE", "SLEEP", "WAKE", "AGAIN", "FELT", "FREES")
        lines += _table(heads, [_victim(victim) for victim in plan["victims"]], range(1, 8), screen)
        lines += _indented(f"chosen: {clean(plan['chosen'])}", screen)
    if plan["stay"]:
        stay = [(clean(s["model"]), _when(s["in_s"], clean(s["why"]))) for s in plan["stay"]]
        lines += _table(("STAYS AWAKE", "WHY"), stay, range(0), screen)
    if plan["gpus"]:
        gpus = [_gpu(gpu, moves=plan["would"] == "wake") for gpu in plan["gpus"]]
        lines += _table(("GPU", "FREE", "KEPT", "FREED", "NEEDED", "LEFT", "UUID"), gpus, range(6), screen)
    if plan["steps"]:
        steps = [(clean(s["call"]), _seconds(s["seconds"])) for s in plan["steps"]]
        lines += _table(("STEP", "TAKES"), steps, range(0), screen)
    for label, text in (("wanted", plan["wanted"]), ("found", plan["found"]), ("hint", plan["hint"])):
        lines += _indented(f"{label + ':':<8}{clean(text)}", screen) if text else []
    return lines


def _headline(plan: WakePlan) -> str:
    problem, detail = clean(plan["problem"]), clean(plan["detail"])
    why = f": {detail}" if detail else ""
    if plan["would"] == "wake":
        took = ""
        if plan["eta_s"] is not None:
            about = "" if plan["measured"] else "about "
            parts = f", {_seconds(plan['sleep_s'])} of it making room" if plan["victims"] else ""
            took = f" in {about}{format_duration(plan['eta_s'])}{parts}"
        return f"would be woken from level {plan['level']}{took}{why}"
    heads = {
        "nothing": "nothing would be done",
        "join": "would wait for what is under way",
        "wait": f"would wait ({problem})" if problem else "would wait",
        "refuse": f"would be refused ({problem})",
    }
    return heads[plan["would"]] + why


def _victim(victim: Victim) -> tuple[str, ...]:
    return (
        clean(victim["model"]),
        str(victim["level"]),
        str(victim["priority"]),
        format_duration(int(victim["idle_s"])),
        _seconds(victim["sleep_s"]),
        _seconds(victim["wake_s"]),
        f"{victim['again']:.2f}",
        _seconds(victim["felt_s"]),
        " + ".join(format_size(freed["bytes"]) for freed in victim["frees"]),
    )


def _gpu(gpu: PlannedGpu, *, moves: bool) -> tuple[str, ...]:
    sizes = (gpu["free_bytes"], gpu["kept_bytes"], gpu["freed_bytes"], gpu["need_bytes"])
    left = format_size(gpu["left_bytes"]) if moves else "-"
    return str(gpu["index"]), *(format_size(size) for size in sizes), left, clean(gpu["uuid"])


def _when(in_s: float | None, why: str) -> str:
    return why if in_s is None else f"{why} (over in {format_duration(in_s)})"


def _seconds(seconds: float | None) -> str:
    return "?" if seconds is None else format_duration(seconds)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: range, screen: Screen) -> list[str]:
    narrow = Screen(None if screen.width is None else screen.width - INDENT, screen.colour, screen.unicode)
    lines = Columns(heads, rows, right=right).render(narrow, [{}] * len(rows))
    return [" " * INDENT + line for line in lines]


def _indented(text: str, screen: Screen) -> list[str]:
    first, *rest = screen.wrap(text, INDENT)
    return [" " * INDENT + first, *rest]
