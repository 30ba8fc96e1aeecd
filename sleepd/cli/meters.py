"""What GPUs and the host have and have left, in words; tables draw bars beside them."""

from __future__ import annotations

from sleepd.core.units import format_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sleepd.wire.shapes import Gpu, Host


class Meter:
    """Something that is used up to `total`. `left` says what there is beyond; `short`: the margin is being eaten."""

    __slots__ = ("left", "name", "short", "total", "used")

    def __init__(self, name: str, used: int, total: int, left: str, *, short: bool) -> None:
        self.name, self.used, self.total, self.left, self.short = name, used, total, left, short

    @property
    def share(self) -> float:
        return min(1.0, self.used / self.total) if self.total else 0.0

    @property
    def text(self) -> str:
        return f"{format_size(self.used)} of {format_size(self.total)}, {self.left}"

    @property
    def colour(self) -> str:
        """Red where the margin is being eaten, yellow where it is nearly full."""
        return "red" if self.short else "yellow" if self.share > 0.9 else "cyan"


def gpu_meter(gpu: Gpu) -> Meter:
    total, free, margin = gpu["total_bytes"], gpu["free_bytes"], gpu["margin_bytes"]
    reserved = min(gpu["reserved_bytes"], max(0, free - margin))
    left = f"free {format_size(max(0, free - margin - reserved))} + margin {format_size(margin)}"
    left += f" + reserved {format_size(gpu['reserved_bytes'])}" if gpu["reserved_bytes"] else ""
    name = f"GPU {gpu['index']}" if gpu["mig_of"] is None else f"MIG {gpu['mig_of']}.{gpu['index'] % 1000}"
    return Meter(name, total - free, total, left, short=free < margin)


def host_meter(host: Host) -> Meter | None:
    """Return nothing where the host's RAM cannot be read."""
    total, available, reserve = host["total_bytes"], host["available_bytes"], host["reserve_bytes"]
    if total is None or available is None:
        return None
    left = f"free {format_size(max(0, available - reserve))} + reserve {format_size(reserve)}"
    return Meter("RAM", total - available, total, left, short=available < reserve)
