"""vLLM servers as processes: how they were started, and who can reach them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sleepd.core.seen import EngineFacts
from sleepd.doctor.findings import AS_ROOT, Finding, fail, ok, warn

ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
TOGGLES_SINCE = (0, 20)
"""vLLM switches expandable segments off around its pool from here on, but not by their newer name (#40812)."""
HINDERS: Mapping[tuple[str, bool], str] = {
    ("VLLM_KEEP_ALIVE_ON_ENGINE_DEATH", True): "it stays up without its engine, so that nothing restarts it",
    ("VLLM_USE_V1", False): "the old engine answers a sleep before it has slept",
}
"""Switches that stand in the way, by how they are set."""
DEV_MODE = "VLLM_SERVER_DEV_MODE"
UNTRUSTED = "its certificate does not hold"
"""How a server is told whose certificate nobody here vouches for (sleepd/adapters/connections.py)."""
ENGINE_HANGS = "it waits for the engine, which is busy or hangs"
_ADVICE = {
    "Permission denied": AS_ROOT,
    UNTRUSTED: "sleepd needs the same: set ca_file of its model, and a name in url that the certificate is for",
    "network namespace": "start it with --uds PATH, or where this host's network is",
    ENGINE_HANGS: "wait until it has less to do; if it hangs, restart it",
}
"""What helps where a server does not answer, by a part of why."""


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """One server process. `silent`: why it does not answer, or no further (`facts` is None where it told nothing at
    all); `environ` None where it may not be read. None where it is not known: `locked`: whether it asks for a key;
    `exposed`: whether other hosts may reach its `url`; `encoder_stays`: whether its encoder does not sleep; `counts`:
    whether its metrics count requests; `port_of`: other servers that were told to listen at its port. `interposed`: the
    library between it and the driver; `managed` None where no daemon could be asked; `wrong_unit`: what the
    configuration calls its unit, where it runs in another."""

    name: str
    url: str
    silent: str = ""
    dev_mode: bool | None = None
    locked: bool | None = False
    exposed: bool | None = False
    environ: Mapping[str, str] | None = None
    encoder_stays: bool | None = False
    counts: bool | None = True
    interposed: str = ""
    port_of: Sequence[str] | None = ()
    facts: EngineFacts | None = None
    managed: bool | None = None
    wrong_unit: str = ""


def read_switch(environ: Mapping[str, str], name: str) -> bool | None:
    """How a switch of vLLM's is set, as vLLM reads it: bool(int(value)) (vllm/envs.py, 0.8.5 to 0.33); None where it is
    not set. What is no number lets no server start, and is none that is on."""
    if name not in environ:
        return None
    try:
        return bool(int(environ[name]))
    except ValueError:
        return False


def interposer_of(environ: Mapping[str, str]) -> str:
    """The library that is loaded before the driver's and answers for it (HAMi-core); empty where none is."""
    asked = [environ.get("LD_PRELOAD", ""), *(name for name in environ if name.startswith("CUDA_DEVICE_MEMORY_LIMIT"))]
    return next((word for word in asked if "libvgpu" in word or word.startswith("CUDA_DEVICE_MEMORY_LIMIT")), "")


def judge_server(seen: ServerSeen) -> Iterator[Finding]:
    """Everything that its process and its answers tell."""
    about = seen.name
    if seen.facts is None or seen.silent:
        others = AS_ROOT if seen.environ is None else ""
        advice = next((advice for part, advice in _ADVICE.items() if part in seen.silent), others)
        yield warn("server.answers", f"{seen.url or 'no address'}: {seen.silent}", about, advice)
    else:
        yield ok("server.answers", seen.url, about)
    if seen.managed is not None:
        yield _judge_managed(seen)
    yield from _judge_reach(seen)
    if seen.url:
        yield _judge_port(seen)
    if seen.facts is not None or seen.counts is False:
        yield _judge_counts(seen)
    yield from _judge_environment(seen)
    yield _judge_encoder(seen)


def _judge_port(seen: ServerSeen) -> Finding:
    about = seen.name
    if seen.port_of is None:
        return warn("server.port", "who else was told to listen there cannot be seen", about, AS_ROOT)
    if seen.port_of:
        return warn("server.port", f"{seen.url}: {', '.join(seen.port_of)} was told to listen there too", about)
    return ok("server.port", "nobody else was told to listen there", about)


def _judge_encoder(seen: ServerSeen) -> Finding:
    about = seen.name
    if seen.encoder_stays is None:
        return warn("server.encoder", "its arguments stand in a file (--config), and it does not tell them", about)
    if seen.encoder_stays:
        return warn("server.encoder", "--mm-encoder-tp-mode data: almost nothing is freed (vLLM #47654)", about)
    return ok("server.encoder", "no argument keeps it awake", about)


def _judge_counts(seen: ServerSeen) -> Finding:
    counts = {
        True: "it counts them",
        False: "its metrics have no vllm:num_requests_running",
        None: "that was not found out",
    }
    return (ok if seen.counts else warn)("server.counts", counts[seen.counts], seen.name)


def _judge_managed(seen: ServerSeen) -> Finding:
    if not seen.managed:
        return warn("server.managed", f"{seen.url or 'it'} is no model of sleepd's", seen.name)
    if seen.wrong_unit:
        advice = "correct its unit in the configuration, then sleepctl reload: sleepd would restart another server"
        return warn(
            "server.managed", f"it does not run in {seen.wrong_unit}, as the configuration says", seen.name, advice
        )
    return ok("server.managed", "it is in the configuration", seen.name)


def _judge_reach(seen: ServerSeen) -> Iterator[Finding]:
    about = seen.name
    dev_mode = seen.dev_mode
    if dev_mode is None and seen.environ is not None:
        dev_mode = bool(read_switch(seen.environ, DEV_MODE))
    if dev_mode is False:
        yield fail("server.dev-mode", "it has no sleep endpoints", about)
        return
    if dev_mode is None:
        advice = AS_ROOT if seen.environ is None else ""
        yield warn("server.dev-mode", "whether it has sleep endpoints was not found out", about, advice)
    else:
        yield ok("server.dev-mode", "it has sleep endpoints", about)
    if not seen.url:
        yield warn("server.exposed", "no address of it was found: who reaches it is not known", about)
    elif seen.exposed is None:
        yield warn(
            "server.exposed", f"{seen.url}: nobody is seen to listen there, so who reaches it is not known", about
        )
    elif seen.exposed:
        found = f"{seen.url} listens for other hosts: who reaches it may put it to sleep, and worse"
        yield fail("server.exposed", found, about)
    else:
        yield ok("server.exposed", "only this host reaches it", about)
    if seen.locked or seen.facts is not None:
        yield _judge_key(seen)


def _judge_key(seen: ServerSeen) -> Finding:
    about = seen.name
    if seen.locked is None:
        return warn("server.key", "whether it asks for one was not found out", about)
    if seen.locked and not seen.url.startswith("unix:"):
        found = "its key guards /v1 alone: everybody on this host may call /sleep and /collective_rpc"
        return warn("server.key", found, about)
    return ok("server.key", "it has one, and a unix socket" if seen.locked else "it asks for none", about)


def _judge_environment(seen: ServerSeen) -> Iterator[Finding]:
    """What it was started with. Where that cannot be read one line says so for all."""
    about, environ = seen.name, seen.environ
    if environ is None:
        yield warn("server.allocator", "its environment cannot be read", about, AS_ROOT)
        return
    hinders = [(name, why) for (name, way), why in HINDERS.items() if read_switch(environ, name) is way]
    for name, why in hinders:
        yield warn("server.environment", f"{name}={environ[name]}: {why}", about)
    if not hinders:
        yield ok("server.environment", "nothing in it stands in the way", about)
    if seen.interposed:
        yield warn("server.interposer", f"{seen.interposed} stands between it and the driver", about)
    else:
        yield ok("server.interposer", "no library that is known stands between", about)
    yield _judge_allocator(seen, environ)


def _judge_allocator(seen: ServerSeen, environ: Mapping[str, str]) -> Finding:
    about = seen.name
    # PyTorch reads over spaces.
    said = {name: environ.get(name, "").lower().replace(" ", "") for name in ALLOCATOR_VARIABLES}
    asked = [name for name in ALLOCATOR_VARIABLES if "expandable_segments:true" in said[name]]
    if not asked:
        return ok("server.allocator", "expandable_segments is not asked for", about)
    release = seen.facts.release if seen.facts else None
    harmless = release is not None and release >= TOGGLES_SINCE and "PYTORCH_ALLOC_CONF" not in asked
    found = f"{asked[0]} asks for expandable_segments"
    if harmless:
        return warn("server.allocator", f"{found}; this release switches it off for what sleeps", about)
    return fail("server.allocator", f"{found}: sleeps free nothing (vLLM #11743)", about)
