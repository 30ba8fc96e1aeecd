"""From a real daemon to the receiver in examples/: signed, checked, over a receiver that was away and a reload."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.integration.harness import Host

RECEIVER = Path(__file__).parents[2] / "examples" / "webhook_receiver.py"


class Receiver:
    """The example as a process."""

    def __init__(self, secret_file: Path, port: int = 0) -> None:
        command = [sys.executable, str(RECEIVER), "--secret-file", str(secret_file), "--port", str(port)]
        self.child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.line().split()[-1]

    def line(self) -> str:
        assert self.child.stdout is not None
        return self.child.stdout.readline()

    def close(self) -> None:
        self.child.kill()
        self.child.communicate()


def test_events_reach_the_example_receiver(host: Host) -> None:
    secret_file = host.root / "secret"
    secret_file.write_text("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    secret_file.chmod(0o600)
    receiver = Receiver(secret_file)
    try:
        webhook = (
            f'[webhooks.test]\nurl = "{receiver.url}"\nsecret_file = "{secret_file}"\nkinds = ["pinned", "unpinned"]'
        )
        host.configure("a", extra=webhook)
        host.start_servers("a")
        daemon = host.start_daemon()
        daemon.client.pin("a")
        assert receiver.line().split()[1:3] == ["pinned", "a"]
        receiver.close()
        daemon.client.unpin("a")
        daemon.events.await_one("webhook", code="failing")
        receiver = Receiver(secret_file)
        host.configure("a", extra=webhook.replace(webhook.split('"')[1], receiver.url))
        daemon.client.reload()
        kinds = [receiver.line().split()[1]]
        if kinds == ["pinned"]:  # the first receiver went before its answer had arrived: sent again
            kinds.append(receiver.line().split()[1])
        assert kinds[-1] == "unpinned", "what waited is sent to where it goes now"
        assert daemon.events.await_one("webhook", code="again")["data"]["lost"] == 0
    finally:
        receiver.close()
