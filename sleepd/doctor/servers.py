"""vLLM servers as processes: how they were started, and who can reach them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sleepd.core.seen import EngineFacts
from sleepd.doctor.findings import Finding, fail, ok, warn

ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
TOGGLES_SINCE = (0, 20)
"""vLLM switches expandable segments off around its pool from here on, but not by their newer name (#40812)."""


AS_ROOT = "run sleepctl doctor as root: it sees what belongs to others"
HINDERS: Mapping[tuple[str, str], str] = {
    ("VLLM_KEEP_ALIVE_ON_ENGINE_DEATH", "1"): "it stays up without its engine, so that nothing restarts it",
    ("VLLM_USE_V1", "0"): "the old engine answers a sleep before it has slept",
}
"""Variables that stand in the way, by their value (vllm/envs.py)."""


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """One server process. `silent`: why it does not answer; `environ` None where it may not be read; `exposed_port`:
    one on which other hosts may reach it; `counts` False with --disable-log-stats; `interposed`: the library
    between it and the driver; `port_of`: other servers that were told to listen at its port; `managed` None where no
    daemon could be asked."""

    name: str
    url: str
    silent: str = ""
    dev_mode: bool | None = None
    locked: bool = False
    exposed_port: int | None = None
    environ: Mapping[str, str] | None = None
    encoder_stays: bool = False
    counts: bool = True
    interposed: str = ""
    port_of: Sequence[str] = ()
    facts: EngineFacts | None = None
    managed: bool | None = None


def interposer_of(environ: Mapping[str, str]) -> str:
    """The library that is loaded before the driver's and answers for it (HAMi-core); empty where none is."""
    asked = [environ.get("LD_PRELOAD", ""), *(name for name in environ if name.startswith("CUDA_DEVICE_MEMORY_LIMIT"))]
    return next((word for word in asked if "libvgpu" in word or word.startswith("CUDA_DEVICE_MEMORY_LIMIT")), "")


def judge_server(seen: ServerSeen) -> Iterator[Finding]:
    """Everything that its process and its answers tell."""
    about = seen.name
    if seen.facts is None:
        advice = AS_ROOT if "Permission denied" in seen.silent else ""
        yield warn("server.answers", f"{seen.url or 'no address'}: {seen.silent}", about, advice)
    else:
        yield ok("server.answers", seen.url, about)
    if seen.managed is not None:
        found = "it is in the configuration" if seen.managed else f"{seen.url} is no model of sleepd's"
        yield (ok if seen.managed else warn)("server.managed", found, about)
    yield from _judge_reach(seen)
    if seen.port_of:
        yield warn("server.port", f"{seen.url}: {', '.join(seen.port_of)} was told to listen there too", about)
    counts = "it does" if seen.counts else "--disable-log-stats: it does not"
    yield (ok if seen.counts else warn)("server.counts", counts, about)
    yield from _judge_memory(seen)


def _judge_reach(seen: ServerSeen) -> Iterator[Finding]:
    about = seen.name
    dev_mode = seen.dev_mode
    if dev_mode is None and seen.environ:
        dev_mode = seen.environ.get("VLLM_SERVER_DEV_MODE") == "1"
    if dev_mode is False:
        yield fail("server.dev-mode", "it has no sleep endpoints", about)
        return
    if dev_mode is None:
        advice = AS_ROOT if seen.environ is None else ""
        yield warn("server.dev-mode", "whether it has sleep endpoints was not found out", about, advice)
    else:
        yield ok("server.dev-mode", "it has sleep endpoints", about)
    if seen.exposed_port is not None:
        found = f"port {seen.exposed_port} listens for other hosts: who reaches it may put it to sleep, and worse"
        yield fail("server.exposed", found, about)
    elif not seen.url:
        yield warn("server.exposed", "no address of it was found: who reaches it is not known", about)
    else:
        yield ok("server.exposed", "only this host reaches it", about)
    if seen.locked and not seen.url.startswith("unix:"):
        found = "its key guards /v1 alone: everybody on this host may call /sleep and /collective_rpc"
        yield warn("server.key", found, about)


def _judge_memory(seen: ServerSeen) -> Iterator[Finding]:
    about = seen.name
    if seen.interposed:
        yield warn("server.interposer", f"{seen.interposed} stands between it and the driver", about)
    for (name, value), why in HINDERS.items():
        if seen.environ is not None and seen.environ.get(name) == value:
            yield warn("server.environment", f"{name}={value}: {why}", about)
    if seen.encoder_stays:
        yield warn("server.encoder", "--mm-encoder-tp-mode data: almost nothing is freed (vLLM #47654)", about)
    if seen.environ is None:
        yield warn("server.allocator", "its environment cannot be read", about, AS_ROOT)
        return
    # PyTorch reads over spaces.
    said = {name: seen.environ.get(name, "").lower().replace(" ", "") for name in ALLOCATOR_VARIABLES}
    asked = [name for name in ALLOCATOR_VARIABLES if "expandable_segments:true" in said[name]]
    if not asked:
        yield ok("server.allocator", "expandable_segments is not asked for", about)
        return
    release = seen.facts.release if seen.facts else None
    harmless = release is not None and release >= TOGGLES_SINCE and "PYTORCH_ALLOC_CONF" not in asked
    found = f"{asked[0]} asks for expandable_segments"
    yield (
        warn("server.allocator", f"{found}; this release switches it off for what sleeps", about)
        if harmless
        else fail("server.allocator", f"{found}: sleeps free nothing (vLLM #11743)", about)
    )
