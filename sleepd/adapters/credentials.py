"""How sleepd shows itself to a server, and how it knows that server by."""

import ssl
from dataclasses import dataclass, field

GUARDED = ("/v1", "/v2", "/inference", "/cohere")
"""Where --api-key applies (vllm/entrypoints/openai/api_server.py, AuthenticationMiddleware; 0.8.5 guards /v1 only)."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """`key` goes with every request that --api-key guards and no other, and is never printed; `key_file` is where it
    came from. `tls` is set for https."""

    key: str = field(default="", repr=False)
    key_file: str = ""
    tls: ssl.SSLContext | None = None

    def headers(self, path: str) -> dict[str, str]:
        guarded = self.key and path.startswith(GUARDED)
        return {"Authorization": f"Bearer {self.key}"} if guarded else {}

    def refused(self, model: str) -> str:
        """What to do about a 401, as a sentence's end."""
        if self.key_file:
            return f"the key in {self.key_file} is not the server's: write its --api-key there and reload"
        return f"the server wants a key: set api_key_file in [models.{model}] to a file that holds its --api-key"


def trust(ca_file: str) -> ssl.SSLContext:
    """A context that takes certificates of these authorities only, of the host's where `ca_file` is empty.

    Raises OSError (ssl.SSLError among them) where the file cannot be used.
    """
    return ssl.create_default_context(cafile=ca_file or None)
