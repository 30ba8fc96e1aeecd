"""A make-believe GPU host: a directory in which several processes keep who holds how many bytes of which GPU.

The simulated vLLM servers, a real vLLM with the tests' plugin, the demo, and a stand-in for `libnvidia-ml.so.1` all
read or write the same directory, so that what one of them allocates is what the others see. Standard library only.

    DIR/gpus           one line "INDEX UUID TOTAL_BYTES" per GPU, then "INDEX UUID TOTAL_BYTES PARENT" per MIG device
    DIR/INDEX.PID      the bytes that process PID holds on GPU INDEX, as decimal text
    DIR/lock           flock()ed while anything is read or written
    DIR/nvml_error     optional, for tests: "CODE" or "CODE FUNCTION", what the NVML stand-in returns from then on

A process that is dead, or a zombie, holds nothing, as on a GPU: the driver frees what a process had when it ends.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Ledger", "LedgerGpu", "LedgerUse", "OutOfMemory"]

_ENTRY = re.compile(r"(\d+)\.(\d+)")
_UUID = re.compile(r"\S{1,95}")


class OutOfMemory(RuntimeError):
    """The bytes did not fit; nothing changed. Reads as vLLM's csrc/cumem_allocator.cpp does on a full GPU."""

    def __init__(self, wanted_bytes: int, free_bytes: int, total_bytes: int) -> None:
        super().__init__(
            f"CUDA Error: out of memory at cumem_allocator.cpp: "
            f"{wanted_bytes} bytes wanted, {free_bytes} bytes free of {total_bytes} bytes"
        )
        self.wanted_bytes = wanted_bytes
        self.free_bytes = free_bytes
        self.total_bytes = total_bytes

    def __reduce__(self) -> tuple[type[OutOfMemory], tuple[int, int, int]]:
        """Survives the way between processes: the arguments are the three numbers, not the text."""
        return OutOfMemory, (self.wanted_bytes, self.free_bytes, self.total_bytes)


@dataclass(frozen=True, slots=True)
class LedgerGpu:
    """One GPU as it is created: its NVML UUID (no spaces) and its size. `mig_of`: it is a MIG device of the GPU at that
    place of the list; those come last, and nobody holds anything of their parent itself."""

    uuid: str
    total_bytes: int
    mig_of: int | None = None


@dataclass(frozen=True, slots=True)
class LedgerUse:
    """One GPU as it is now: who holds how much of it. Only living processes are listed."""

    index: int
    uuid: str
    total_bytes: int
    used_by_pid: dict[int, int] = field(default_factory=dict)

    @property
    def used_bytes(self) -> int:
        return sum(self.used_by_pid.values())

    @property
    def free_bytes(self) -> int:
        """0 also when a GPU was shrunk below what is held."""
        return max(0, self.total_bytes - self.used_bytes)


class Ledger:
    """The directory, opened. Each call waits for the lock while another process reads or writes (microseconds)."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        if not (self.directory / "gpus").is_file():
            raise FileNotFoundError(
                f"wanted a GPU ledger in {self.directory}, found no file 'gpus' there: make one with Ledger.create"
            )

    @classmethod
    def create(cls, directory: str | os.PathLike[str], gpus: Sequence[LedgerGpu]) -> Ledger:
        """`directory` is a host with exactly these GPUs, indexed in order, on which nobody holds anything.

        Raises ValueError for a UUID that is empty, doubled or has spaces, and for a size that is not positive.
        """
        lines = []
        for index, gpu in enumerate(gpus):
            if not _UUID.fullmatch(gpu.uuid):
                raise ValueError(f"GPU {index}: wanted a UUID of 1 to 95 characters without spaces, found {gpu.uuid!r}")
            if gpu.total_bytes <= 0:
                raise ValueError(f"GPU {index}: wanted a size above 0 bytes, found {gpu.total_bytes}")
            parent = "" if gpu.mig_of is None else f" {gpu.mig_of}"
            lines.append(f"{index} {gpu.uuid} {gpu.total_bytes}{parent}\n")
        if len({gpu.uuid for gpu in gpus}) != len(gpus):
            raise ValueError("wanted a different UUID for each GPU, found one twice")
        path = Path(directory)
        path.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            for index, pid in list(_entries(path)):
                (path / f"{index}.{pid}").unlink()
            (path / "nvml_error").unlink(missing_ok=True)
            _write(path / "gpus", "".join(lines))
        return cls(path)

    def claim(self, index: int, pid: int, bytes_: int) -> None:
        """Process `pid` holds exactly `bytes_` on GPU `index`, whatever it held before; 0 removes it from the GPU.

        Raises OutOfMemory when it held less and the growth does not fit; giving bytes back always works. Raises
        LookupError for a GPU that does not exist, ValueError for a negative size.
        """
        if bytes_ < 0:
            raise ValueError(f"wanted 0 or more bytes, found {bytes_}")
        with _locked(self.directory):
            use = {gpu.index: gpu for gpu in self._read()}.get(index)
            if use is None:
                raise LookupError(f"wanted GPU {index}, found none with that index in {self.directory / 'gpus'}")
            held_bytes = use.used_by_pid.get(pid, 0)
            growth_bytes = bytes_ - held_bytes
            if growth_bytes > 0 and growth_bytes > use.free_bytes:
                raise OutOfMemory(growth_bytes, use.free_bytes, use.total_bytes)
            entry = self.directory / f"{index}.{pid}"
            if bytes_:
                _write(entry, f"{bytes_}\n")
            else:
                entry.unlink(missing_ok=True)

    def read(self) -> tuple[LedgerUse, ...]:
        """All GPUs as of one instant, ordered by index. Entries of dead processes are gone afterwards."""
        with _locked(self.directory):
            return self._read()

    def forget(self, pid: int) -> None:
        """Process `pid` holds nothing on any GPU."""
        with _locked(self.directory):
            for index, holder in list(_entries(self.directory)):
                if holder == pid:
                    (self.directory / f"{index}.{pid}").unlink()

    def _read(self) -> tuple[LedgerUse, ...]:
        gpus: dict[int, LedgerUse] = {}
        for line in (self.directory / "gpus").read_text().splitlines():
            number, uuid, size, *_ = line.split()
            gpus[int(number)] = LedgerUse(int(number), uuid, int(size))
        for index, pid in sorted(_entries(self.directory)):
            entry = self.directory / f"{index}.{pid}"
            if not is_running(pid):
                entry.unlink()
            elif index in gpus:
                gpus[index].used_by_pid[pid] = int(entry.read_text())
        return tuple(gpus[index] for index in sorted(gpus))


def is_running(pid: int) -> bool:
    """Whether the process lives and is not a zombie (state letter of /proc/PID/stat, proc_pid_stat(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def _entries(directory: Path) -> Iterator[tuple[int, int]]:
    for name in os.listdir(directory):
        if match := _ENTRY.fullmatch(name):
            yield int(match[1]), int(match[2])


def _write(path: Path, text: str) -> None:
    """By rename, so that a writer killed half-way leaves the old text, not half of the new."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text)
    scratch.replace(path)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
