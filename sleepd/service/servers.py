"""The clients of the managed servers: one for each address, kept as long as the address stands."""

from collections.abc import Callable, Iterable

from sleepd.adapters.credentials import Credentials, trust
from sleepd.adapters.vllm_http import VllmServer
from sleepd.config.secrets import SecretError, read_key
from sleepd.core.model import ModelSpec
from sleepd.core.turn import Note
from sleepd.ports import Vllm
from sleepd.service.parts import Parts


class Servers:
    """Clients by model; whatever changes how a server is reached makes a new one."""

    def __init__(self, parts: Parts, tell: Callable[[Note], None]) -> None:
        self._parts, self._tell = parts, tell
        self._clients: dict[tuple[str, ...], VllmServer] = {}

    def client(self, spec: ModelSpec) -> Vllm:
        key = _way_to(spec)
        if key not in self._clients:
            credentials, problem = _credentials_of(spec)
            if problem:
                self._tell(Note("failure", spec.name, problem, {"code": "unauthorized"}))
            parts = self._parts
            self._clients[key] = VllmServer(spec, parts.clock, parts.find, parts.units, credentials)
        return self._clients[key]

    def renew(self, specs: Iterable[ModelSpec]) -> None:
        """Read keys and authorities anew: what stands in those files may have changed while their names did not.

        A file that cannot be read any more leaves what was read before, told.
        """
        for spec in specs:
            client = self._clients.get(_way_to(spec))
            if client is None:
                continue
            credentials, problem = _credentials_of(spec)
            if problem:
                self._tell(Note("failure", spec.name, f"{problem}; what was read before is kept"))
            else:
                client.show(credentials)

    def all(self) -> tuple[Vllm, ...]:
        return tuple(self._clients.values())


def _way_to(spec: ModelSpec) -> tuple[str, ...]:
    return (spec.name, spec.url, spec.api_key_file, spec.ca_file)


def _credentials_of(spec: ModelSpec) -> tuple[Credentials, str]:
    """What the model's files hold, and what is wrong with them, as a sentence."""
    try:
        key = read_key(spec.api_key_file) if spec.api_key_file else ""
        tls = trust(spec.ca_file) if spec.url.startswith("https:") else None
    except SecretError as error:
        return Credentials(), f"api_key_file of {spec.name}: {error}"
    except OSError as error:
        return Credentials(), f"ca_file of {spec.name}: {spec.ca_file}: {error.strerror or error}"
    return Credentials(key, spec.api_key_file, tls), ""
