"""The clients of the managed servers: one for each address, kept as long as the address stands."""

from sleepd.adapters.vllm_http import VllmServer
from sleepd.core.model import ModelSpec
from sleepd.ports import Vllm
from sleepd.service.parts import Parts


class Servers:
    """Clients by model; whatever changes how a server is reached makes a new one."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._clients: dict[tuple[str, ...], Vllm] = {}

    def client(self, spec: ModelSpec) -> Vllm:
        key = (spec.name, spec.url, spec.api_key_file, spec.ca_file)
        if key not in self._clients:
            self._clients[key] = VllmServer(spec, self._parts.clock, self._parts.find, self._parts.units)
        return self._clients[key]

    def all(self) -> tuple[Vllm, ...]:
        return tuple(self._clients.values())
