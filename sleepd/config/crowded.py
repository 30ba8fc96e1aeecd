"""Models of which fewer are awake at once than want to be: whether their turns are short enough for all to be served.

Said only where it is certain. How much a model takes is mostly not written but learned, and how much a GPU has is told
by its driver: then nobody can say here how many fit at once. `sleepd simulate` plays what comes of it.
"""

from collections.abc import Iterable, Iterator, Mapping

from sleepd.config.errors import KeyPath
from sleepd.config.validate import Findings
from sleepd.core.model import Group, ModelSpec
from sleepd.core.sharing import least_wait_s
from sleepd.core.units import Bytes, Seconds, format_duration


def warn_of_crowds(
    models: Mapping[str, ModelSpec],
    groups: Iterable[Group],
    capacity: Mapping[str, Bytes],
    margin_bytes: Bytes,
    findings: Findings,
) -> None:
    """Warn where requests for a model must give up, if all that share its place were wanted all the time. `capacity`:
    of declared GPUs, where models declare what they take."""
    for path, sharing, places in (*_by_group(models, groups), *_by_gpu(models, capacity, margin_bytes)):
        if (worst := _worst_off(sharing, places)) is not None:
            spec, least_s = worst
            least, most = format_duration(least_s), format_duration(spec.max_wait_s)
            findings.warn(
                path,
                f"of {len(sharing)} models only {places} at a time: were all wanted all the time, a request for "
                f"{spec.name} would wait {least} or more for others' turns, and gives up after max_wait = {most}; "
                "a shorter min_awake or a longer max_wait serves all",
            )


def _worst_off(sharing: list[ModelSpec], places: int) -> tuple[ModelSpec, Seconds] | None:
    """Whose requests would give up soonest before its turn came, and the least they wait for it; None where nobody's
    must."""
    alike: dict[tuple[int, Seconds], ModelSpec] = {}
    for spec in sorted(sharing, key=lambda m: (m.min_awake_s, m.name)):
        alike.setdefault((spec.priority, spec.max_wait_s), spec)  # of those alike it waits longest
    waits = [(m, least_wait_s(m, [o for o in sharing if o is not m], places)) for m in alike.values()]
    refused = [(m, least_s) for m, least_s in waits if least_s and least_s >= m.max_wait_s]
    return max(refused, key=lambda found: found[1] - found[0].max_wait_s, default=None)


_Room = tuple[KeyPath, list[ModelSpec], int]


def _by_group(models: Mapping[str, ModelSpec], groups: Iterable[Group]) -> Iterator[_Room]:
    for group in groups:
        members = [models[name] for name in sorted(group.models) if name in models]
        yield ("groups", group.name, "max_awake"), members, group.max_awake


def _by_gpu(models: Mapping[str, ModelSpec], capacity: Mapping[str, Bytes], margin_bytes: Bytes) -> Iterator[_Room]:
    for gpu, total_bytes in capacity.items():
        sharing = [m for _, m in sorted(models.items()) if gpu in m.gpus and m.vram_bytes is not None]
        left_bytes, places = total_bytes - margin_bytes, 0
        for bytes_ in sorted(m.vram_bytes or 0 for m in sharing):
            left_bytes -= bytes_
            places += left_bytes >= 0
        if places:
            yield ("gpu", "capacity", gpu), sharing, places
