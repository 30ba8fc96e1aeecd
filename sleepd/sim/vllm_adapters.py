"""LoRA adapters of a simulated server that come and go as it runs (`VLLM_ALLOW_RUNTIME_LORA_UPDATING=1`).

Source: vLLM entrypoints/serve/lora/api_router.py and entrypoints/openai/models/serving.py, 0.32.
"""

from __future__ import annotations

from sleepd.sim import vllm_bodies as bodies
from sleepd.sim.vllm_prompts import parse_object
from sleepd.sim.vllm_types import HttpRequest, SimReply
from sleepd.sim.vllm_worker import Worker

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
ROUTES: dict[str, tuple[str, ...]] = {LOAD: ("POST",), UNLOAD: ("POST",)}


def answer(request: HttpRequest, worker: Worker) -> SimReply:
    """Load or unload one adapter. One that is loaded in place has other weights, whatever path it came from."""
    body = parse_object(request.body)
    name, path, inplace = body.get("lora_name"), body.get("lora_path"), bool(body.get("load_inplace"))
    if request.path == UNLOAD:
        if not isinstance(name, str) or name not in worker.adapters:
            return bodies.error(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        worker.unload_adapter(name)
        return SimReply(200, f"Success: LoRA adapter '{name}' removed successfully.")
    if not isinstance(name, str) or not name or not isinstance(path, str) or not path:
        return bodies.error(400, "Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput")
    if name in worker.adapters and not inplace:
        return bodies.error(400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
    worker.load_adapter(name, path)
    return SimReply(200, f"Success: LoRA adapter '{name}' added successfully.")
