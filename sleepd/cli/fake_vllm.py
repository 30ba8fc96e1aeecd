"""`sleepd fake-vllm`: one simulated vLLM server, for demos, tests, and trying policies without a GPU."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import ssl
import sys

from sleepd.core.units import UnitError, parse_size
from sleepd.sim.dialects import dialect_of
from sleepd.sim.fake_server import FakeVllm
from sleepd.sim.fake_world import BoundedRam, open_ledger
from sleepd.sim.vllm_types import EngineSpec, OutOfMemory, Timing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`fake-vllm` knows its options."""
    parser.description = __doc__
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=_port, help="listen on 127.0.0.1:PORT (0: any free port, printed)")
    where.add_argument("--uds", metavar="PATH", help="listen on a unix socket")
    parser.add_argument("--version", dest="release", type=_release, default="0.32.0", help="vLLM release to imitate")
    parser.add_argument("--name", default="tiny-a", help="served model name")
    parser.add_argument("--weights", type=_size, default="8GiB", help="weights per GPU")
    parser.add_argument("--kv", type=_size, default="20GiB", help="KV cache per GPU")
    parser.add_argument("--residual", type=_size, default="1GiB", help="what stays on each GPU while asleep")
    parser.add_argument("--residual-growth", type=_size, default="0GiB", help="what each sleep leaves behind for good")
    parser.add_argument("--blocks", type=_positive, default=4, help="blocks per pool, the grain of half-done calls")
    parser.add_argument("--sleep-seconds", type=_seconds, help="a sleep takes this long (default: from the bytes)")
    parser.add_argument("--wake-seconds", type=_seconds, help="waking the weights takes this long")
    parser.add_argument("--reload-seconds", type=_seconds, help="reload_weights takes this long")
    parser.add_argument("--first-sleep-factor", type=_seconds, default=1.0, help="the first level 1 sleep is slower")
    parser.add_argument("--pace-ms", type=_seconds, default=2.0, help="milliseconds per generated token")
    parser.add_argument("--ledger", metavar="DIR", help="GPU ledger directory to hold memory in")
    parser.add_argument("--gpu", metavar="N", type=_index, action="append", help="GPU in the ledger; repeat for more")
    parser.add_argument("--host-ram", type=_size, help="host RAM it may pin (default: without limit)")
    parser.add_argument("--no-dev-mode", action="store_true", help="without VLLM_SERVER_DEV_MODE=1")
    parser.add_argument("--no-sleep-mode", action="store_true", help="without --enable-sleep-mode")
    parser.add_argument("--load-tracking", action="store_true", help="with --enable-server-load-tracking")
    parser.add_argument("--api-key", help="key that guards /v1")
    parser.add_argument("--ssl-certfile", metavar="PATH", help="speak TLS with this certificate")
    parser.add_argument("--ssl-keyfile", metavar="PATH", help="the certificate's key, where it is a file of its own")
    parser.add_argument("--lora", metavar="NAME", action="append", help="a loaded LoRA adapter; repeat for more")
    parser.add_argument(
        "--runtime-lora", action="store_true", help="LoRA adapters may be loaded and unloaded as it runs"
    )
    parser.add_argument("--quantization", metavar="METHOD", help="quantized weights: before 0.16 a reload breaks them")
    parser.add_argument("--kv-cache-dtype", default="auto", help="fp8: before 0.12 level 2 loses its scales")
    parser.add_argument("--task", choices=("generate", "embed", "pool"), default="generate", help="what the model does")
    parser.add_argument("--control-uds", metavar="PATH", help="unix socket to arm faults on (POST /fake/fault)")


def run(args: argparse.Namespace) -> int:
    """The server has run until SIGTERM, SIGINT or its engine's death, and the value is its exit status (vLLM's: 0)."""
    try:
        return asyncio.run(_serve(args))
    except (OutOfMemory, ValueError, OSError) as error:
        print(f"sleepd fake-vllm: {error}", file=sys.stderr)
        return 1


async def _serve(args: argparse.Namespace) -> int:
    spec = spec_of(args)
    if args.uds and not dialect_of(spec.version).has_uds:
        raise ValueError(f"vLLM {spec.version} has no --uds (0.10.2 is the first): use --port")
    gpu = open_ledger(args.ledger, args.gpu or [0], os.getpid()) if args.ledger else None
    server = FakeVllm(
        spec,
        port=args.port,
        uds=args.uds,
        control_uds=args.control_uds,
        gpu=gpu,
        host=BoundedRam(args.host_ram),
        tls=_tls(args),
    )
    async with server:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.engine.terminate)
        where = args.uds or server.base_url
        print(f"sleepd fake-vllm: {spec.name} speaks vLLM {spec.version} on {where}", flush=True)
        return await server.exited


def spec_of(args: argparse.Namespace) -> EngineSpec:
    """The server these arguments describe."""
    timing = Timing(args.sleep_seconds, args.wake_seconds, args.reload_seconds, args.first_sleep_factor)
    return EngineSpec(
        version=args.release,
        name=args.name,
        weights_bytes=args.weights,
        kv_bytes=args.kv,
        residual_bytes=args.residual,
        residual_growth_bytes=args.residual_growth,
        blocks=args.blocks,
        timing=timing,
        sleep_mode=not args.no_sleep_mode,
        dev_mode=not args.no_dev_mode,
        api_key=args.api_key,
        adapters=tuple(args.lora or ()),
        loads_adapters=args.runtime_lora,
        quantization=args.quantization,
        kv_cache_dtype=args.kv_cache_dtype,
        task=args.task,
        load_tracking=args.load_tracking,
        pace_s=args.pace_ms / 1000,
        tensor_parallel_size=max(1, len(args.gpu or [])),
    )


def _tls(args: argparse.Namespace) -> ssl.SSLContext | None:
    if args.ssl_certfile is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(args.ssl_certfile, args.ssl_keyfile)
    return context


def _release(text: str) -> str:
    try:
        dialect_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except UnitError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"wanted a number from 0 up, found {text!r}")
    return value


def _positive(text: str) -> int:
    return _number(text, 1)


def _index(text: str) -> int:
    return _number(text, 0)


def _port(text: str) -> int:
    value = _number(text, 0)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"wanted a port from 0 to 65535, found {text}")
    return value


def _number(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"wanted a whole number from {least} up, found {text!r}")
    return int(text)
