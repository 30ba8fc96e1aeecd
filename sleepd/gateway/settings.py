"""What the gateway goes by: settings an operator chose, and limits nobody needs to choose."""

from collections.abc import Mapping
from dataclasses import dataclass

from sleepd.core.units import Bytes, Seconds

HEAD_LIMIT: Bytes = 64 << 10
"""Of a request and of an answer: more than any client or vLLM sends, less than what could be used to fill memory."""
FIELDS_LIMIT = 128
PIPELINED_LIMIT = 32
"""Requests that one read may bring beside the one that is being answered."""
SMALL_BODY: Bytes = 64 << 10
"""Up to here a body is read at once when it is complete; a larger one is looked through as it arrives."""
CHUNK_OVERHEAD = 8
"""Times the body that its chunks may take on the wire: one byte in a chunk of its own takes six."""
BODY_LIMIT: Bytes = 512 << 20
HELD_BODY_LIMIT: Bytes = 64 << 20
"""What one request may keep in memory while its model is not known or not awake; more is refused with 413."""
BUFFERED_LIMIT: Bytes = 256 << 20
"""What all requests together may keep in memory so; the next one is refused with 503."""
DISCARDED_LIMIT: Bytes = 64 << 10
"""The body of a refused request is read and dropped up to here, so that its connection can be used again."""
ERROR_BODY_LIMIT: Bytes = 256 << 10
"""How much of an upstream's refusal is kept for an error event, after a heartbeat went out."""

CONNECTIONS_LIMIT = 8192
HEAD_WITHIN_S: Seconds = 20.0
IDLE_CLIENT_S: Seconds = 75.0
LEAST_BYTES_S = 1024
"""A body that arrives more slowly than this for BODY_STALLED_S is given up."""
BODY_STALLED_S: Seconds = 30.0
UNREAD_S: Seconds = 300.0
"""A client that reads nothing of its answer for this long has left: its model could never sleep again."""
LINGER_S: Seconds = 2.0
CONNECT_S: Seconds = 5.0
UNNOTICED_S: Seconds = 5.0
"""How long nobody may listen at a server's address before it is told: sleepd notices a dead server in three polls."""
KNOCK_AGAIN_S: Seconds = 0.1
IDLE_SHARE = 0.7
"""Of what a server keeps an idle connection (uvicorn: 5 s): ours are given up well before, so that no request meets the
closing. So are those that were opened ahead and never used: uvicorn lets these wait for ever, others do not."""
AHEAD_LIMIT = 64
"""Connections opened anew while requests wait, in place of those that grew old waiting."""
SURE_UPSTREAM_S: Seconds = 1.0
"""A connection idle for longer is asked whether it was closed before it is used again."""
IDS_KEPT_S: Seconds = 3600.0
IDS_LIMIT = 100_000
GATE_S: Seconds = 50.0
"""How long a question at the gate waits: less than the 60 s that proxies give an answer."""
STOP_S: Seconds = 8.0
"""What runs at a stop may take this long: less than what the service gives each of its parts."""


UNSENT_S: Seconds = 5.0
"""How long a client may take to send the rest of what it asks, when the daemon is restarted."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """`keys` maps each key to the name it goes by; None: nobody needs one. `heartbeat_s` 0: no heartbeats."""

    queue: int = 256
    keys: Mapping[str, str] | None = None
    cors_origins: tuple[str, ...] = ()
    heartbeat_s: Seconds = 15.0
