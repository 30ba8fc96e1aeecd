#!/usr/bin/env python3
"""A receiver of sleepd's webhooks on the standard library: checks who sent an event, and prints it.

    python3 examples/webhook_receiver.py --secret-file /etc/sleepd/alerts.secret --port 9000

Any library for Standard Webhooks (standardwebhooks.com) does the same check. What a receiver of one's own should keep:
check the signature over the body as it came, refuse old timestamps, take an id that was seen before without doing
anything again, and answer 2xx at once: sleepd sends again what is not taken within `timeout`.
"""

import argparse
import base64
import hashlib
import hmac
import json
import sys
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

OLDEST_S = 300.0
LARGEST_BYTES = 1 << 20


def is_signed(secret: bytes, message_id: str, timestamp: str, body: bytes, signatures: str) -> bool:
    """Whether one of the signatures is this secret's for this message, and the message is of these minutes."""
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > OLDEST_S:
        return False
    expected = hmac.digest(secret, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    for signature in signatures.split():
        version, _, value = signature.partition(",")
        if version == "v1" and hmac.compare_digest(value, base64.b64encode(expected).decode()):
            return True
    return False


class Receiver(BaseHTTPRequestHandler):
    secret: ClassVar[bytes] = b""
    seen: ClassVar[deque[str]] = deque(maxlen=10_000)

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length", "0"))
        if not 0 < length <= LARGEST_BYTES:
            return self.answer(413)
        body = self.rfile.read(length)
        message_id = self.headers.get("webhook-id", "")
        timestamp, signatures = self.headers.get("webhook-timestamp", ""), self.headers.get("webhook-signature", "")
        if not is_signed(self.secret, message_id, timestamp, body, signatures):
            return self.answer(401)
        if message_id not in self.seen:
            self.seen.append(message_id)
            event = json.loads(body)["data"]
            print(f"{event['time']}  {event['kind']:<14} {event['model'] or '-':<20} {event['text']}", flush=True)
        return self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing but events is printed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--secret-file", type=Path, required=True, help="the same as secret_file of the webhook")
    parser.add_argument("--port", type=int, default=9000, help="0: any that is free")
    options = parser.parse_args()
    Receiver.secret = base64.b64decode(options.secret_file.read_text().strip().removeprefix("whsec_"))
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
