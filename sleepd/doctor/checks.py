"""Every check by its stable id: what it asks, with whose eyes, and what to do where the answer is no.

docs/doctor.md is made of it. Ids are for programs: one that changes its meaning gets another id.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Eyes(StrEnum):
    """Who looks: whoever runs `sleepctl doctor`, or the daemon, with its own rights and its own readings."""

    CALLER = "yours"
    DAEMON = "the daemon's"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Check:
    eyes: Eyes
    asks: str
    remedy: str


_RAM = (
    "free host RAM, lower [host] reserve, declare host_ram, or allow max_level = 2 where that is safe (docs/levels.md)"
)

CHECKS: Mapping[str, Check] = {
    "daemon.answers": Check(
        Eyes.CALLER,
        "does the daemon answer on its socket?",
        "systemctl status sleepd; journalctl -u sleepd; sleepctl --socket PATH where it listens elsewhere",
    ),
    "daemon.version": Check(
        Eyes.CALLER,
        "are sleepctl and the daemon of one release?",
        "systemctl restart sleepd after an upgrade; of two installations use the daemon's own sleepctl",
    ),
    "daemon.role": Check(
        Eyes.DAEMON,
        "may you do more than look?",
        "ask an admin for the group of [api.roles] operator, and log in anew",
    ),
    "daemon.mode": Check(
        Eyes.DAEMON,
        "do rules act, or only tell what they would do?",
        'take mode = "observe" out of [daemon] or of the model',
    ),
    "daemon.state": Check(
        Eyes.DAEMON,
        "can the state database be written, now and for a while?",
        "free space below [daemon] state_dir, and let it be the daemon's: nothing is begun that cannot be recorded",
    ),
    "daemon.clock": Check(
        Eyes.DAEMON,
        "did the clock jump since the daemon began?",
        "let NTP slew it instead (chronyd, systemd-timesyncd); schedules count local time",
    ),
    "host.clock": Check(
        Eyes.CALLER,
        "does the kernel know that its clock is synchronized?",
        "enable chrony or systemd-timesyncd",
    ),
    "host.wsl": Check(
        Eyes.CALLER,
        "is it Linux itself, not WSL2?",
        "start servers with VLLM_WSL2_ENABLE_PIN_MEMORY=1, leave LoRA out, and try each with --try (F30)",
    ),
    "host.controllers": Check(
        Eyes.CALLER,
        "is no other program here that puts vLLM servers to sleep?",
        "let each server be in the configuration of one of them (F13)",
    ),
    "host.ram": Check(
        Eyes.DAEMON,
        "can host RAM be read?",
        "set [host] proc_root to where the host's /proc is",
    ),
    "host.limits": Check(
        Eyes.DAEMON,
        "are memory limits of units seen?",
        "boot with cgroup v2, or set [host] cgroup_root to where the host's is",
    ),
    "host.backups": Check(
        Eyes.DAEMON,
        "does what is left of host RAM hold the level 1 backups of all who do not have theirs yet?",
        _RAM,
    ),
    "host.pressure": Check(
        Eyes.DAEMON,
        "does the kernel tell memory pressure (PSI), and is it low?",
        "boot with psi=1 where it is not told; where it is high, free host RAM",
    ),
    "gpu.daemon": Check(
        Eyes.DAEMON,
        "can the daemon read the GPUs' memory?",
        'install the driver, let the daemon open /dev/nvidia*, or declare bytes: [gpu] backend = "none"',
    ),
    "gpu.processes": Check(
        Eyes.DAEMON,
        "does the driver tell bytes per process?",
        "nothing where the driver cannot (WSL2, some containers): a sleep is then measured by the whole device",
    ),
    "gpu.unified": Check(
        Eyes.CALLER,
        "has each GPU memory of its own?",
        "let rules stop models (may_stop), or sleep at level 2: a level 1 backup frees nothing there (F28)",
    ),
    "gpu.orphans": Check(
        Eyes.CALLER,
        "has every engine its server?",
        "end it (kill PID): nobody can ask it any more, and it keeps its GPU's memory (F26)",
    ),
    "gpu.caller": Check(
        Eyes.CALLER,
        "can you read the GPUs' memory?",
        "nothing where the daemon can; else install the driver (libnvidia-ml.so.1)",
    ),
    "server.answers": Check(
        Eyes.CALLER,
        "does each vLLM server that runs here answer?",
        "wait until it has loaded; run doctor as root; publish a container's port on 127.0.0.1",
    ),
    "server.managed": Check(
        Eyes.CALLER,
        "does sleepd know each vLLM server that runs here?",
        "add it to the configuration (sleepd init --dir DIR writes a section for each), then sleepctl reload",
    ),
    "server.dev-mode": Check(
        Eyes.CALLER,
        "does it have sleep endpoints?",
        "start it with VLLM_SERVER_DEV_MODE=1 in its environment",
    ),
    "server.exposed": Check(
        Eyes.CALLER,
        "are the sleep endpoints out of reach of other hosts?",
        "start it with --uds PATH or --host 127.0.0.1 (docs/security.md)",
    ),
    "server.key": Check(
        Eyes.CALLER,
        "is a key trusted that does not cover the sleep endpoints?",
        "start it with --uds PATH in a folder that only the daemon may enter (docs/security.md)",
    ),
    "server.allocator": Check(
        Eyes.CALLER,
        "is PyTorch's expandable_segments off?",
        "take expandable_segments:True out of PYTORCH_CUDA_ALLOC_CONF and PYTORCH_ALLOC_CONF",
    ),
    "server.port": Check(
        Eyes.CALLER,
        "is it alone at its port?",
        "give each a --port or --uds of its own: up to vLLM 0.29 the kernel deals requests out between them",
    ),
    "server.environment": Check(
        Eyes.CALLER,
        "is its environment free of what stands in the way?",
        "start it without the variable that is named",
    ),
    "server.interposer": Check(
        Eyes.CALLER,
        "does it speak to the driver itself?",
        "start it without the library that stands between (HAMi-core): it miscounts what sleeps (F29)",
    ),
    "server.counts": Check(
        Eyes.CALLER,
        "does it count its requests?",
        "start it without --disable-log-stats: without counters it is never known to be idle (F51)",
    ),
    "server.encoder": Check(
        Eyes.CALLER,
        "does its vision encoder sleep too?",
        "start it without --mm-encoder-tp-mode data",
    ),
    "model.looks": Check(
        Eyes.DAEMON,
        "does the daemon reach each model's server?",
        "sleepctl explain MODEL says what was found; check url, unit and the daemon's right to connect",
    ),
    "model.exposed": Check(
        Eyes.DAEMON,
        "is its server reached by no way but this host's?",
        "take allow_exposed out, and let the server listen on loopback or a unix socket (docs/security.md)",
    ),
    "model.sleep-mode": Check(
        Eyes.BOTH,
        "may it sleep at all, by its release and arguments?",
        "start it with --enable-sleep-mode, fence it (fenced = true), or upgrade vLLM (docs/vllm.md)",
    ),
    "model.release": Check(
        Eyes.BOTH,
        "is its vLLM release one of those whose source was read?",
        "upgrade sleepd, or use a release that docs/vllm.md names: until then the strictest rules hold",
    ),
    "model.trap": Check(
        Eyes.BOTH,
        "does its release with its arguments have a known trap?",
        "docs/failure-modes.md has the entry that is named; mostly: upgrade vLLM",
    ),
    "model.level2": Check(
        Eyes.DAEMON,
        "where max_level = 2 is set, is level 2 safe?",
        "set max_level = 1, or remove what forbids it (docs/levels.md)",
    ),
    "model.gpus": Check(
        Eyes.DAEMON,
        "does it hold memory on the GPUs that the configuration names?",
        "correct gpus; CUDA counts as nvidia-smi does only with CUDA_DEVICE_ORDER=PCI_BUS_ID",
    ),
    "model.start": Check(
        Eyes.DAEMON,
        "where it shares a GPU: is its start safe from its neighbours' sleeps and wakes, and they from it?",
        "give it a unit, so that sleepd keeps its GPUs while it starts, or --kv-cache-memory-bytes (F24)",
    ),
    "model.unit": Check(
        Eyes.DAEMON,
        "can sleepd restart it where nothing else helps?",
        "run it as a unit (vllm@.service) and set unit (docs/units.md)",
    ),
    "model.failed": Check(
        Eyes.DAEMON,
        "is it in service?",
        "sleepctl explain MODEL; restart its server, then sleepctl reset MODEL",
    ),
    "model.frees": Check(
        Eyes.DAEMON,
        "did its sleeps free memory?",
        "restart it with --enable-sleep-mode on a release that frees its weights, then sleepctl doctor --try MODEL",
    ),
    "model.grows": Check(
        Eyes.DAEMON,
        "does it keep the same bytes after each sleep?",
        "restart its server in a quiet moment (sleepd does, where it has a unit)",
    ),
    "model.stranger": Check(
        Eyes.DAEMON,
        "is sleepd alone in putting it to sleep?",
        "end the other controller, or take the model out of one of the two configurations",
    ),
    "model.backup": Check(
        Eyes.DAEMON,
        "does its level 1 backup fit, into RAM and under its unit's limits?",
        f"raise MemoryMax= and MemoryHigh= above weights and backup; {_RAM}",
    ),
    "unit.restart": Check(
        Eyes.CALLER,
        "does systemd start the server anew when it dies?",
        "set Restart=always: vLLM's API server ends with status 0 when its engine died",
    ),
    "unit.kill-mode": Check(
        Eyes.CALLER,
        "does a stop end the engine too?",
        "set KillMode=control-group and SendSIGKILL=yes: an engine that outlives its server keeps the GPU's memory",
    ),
    "unit.oom": Check(
        Eyes.CALLER,
        "does the whole server end when one of its processes is killed for memory?",
        "set OOMPolicy=stop (or kill): what is left of it answers /health and nothing else",
    ),
    "unit.memory": Check(
        Eyes.DAEMON,
        "are MemoryMax= and MemoryHigh=, of the unit and of what it lies in, above weights and backups?",
        "raise the limit that is named, or take it away (F36); levels that need no backup: docs/levels.md",
    ),
    "unit.boot": Check(
        Eyes.CALLER,
        "does at most one server of a GPU start at boot, as far as units and GPUs are known?",
        "enable one alone; sleepctl start NAME starts each other one in its turn (F23, F24)",
    ),
    "unit.rights": Check(
        Eyes.CALLER,
        "may the daemon start and stop units?",
        "install polkit; the package's rule is for vllm@*.service, others need one of your own (docs/systemd.md)",
    ),
    "try.sleep": Check(
        Eyes.BOTH,
        "with --try: does a sleep give the GPU's memory back?",
        "server.*, model.* and docs/troubleshooting.md name what keeps it",
    ),
    "try.wake": Check(
        Eyes.BOTH,
        "with --try: is it awake again?",
        "sleepctl explain MODEL",
    ),
}
