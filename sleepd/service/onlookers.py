"""Those who only look on: history, webhooks and traces. They hear of what was published and told; nothing waits for
them."""

from collections.abc import Awaitable, Callable

from sleepd.adapters.webhook_http import WebhookSender
from sleepd.config.settings import Config
from sleepd.core.model import Now
from sleepd.core.turn import Note
from sleepd.service.followers import Followers
from sleepd.service.history import HistoryPart
from sleepd.service.parts import Parts
from sleepd.service.tracing import TracingPart
from sleepd.service.webhooks import Webhooks


class Onlookers:
    """All three. `config` returns what counts at the moment, `entered` how many requests a model's gate has let in."""

    def __init__(
        self,
        parts: Parts,
        *,
        now: Callable[[], Now],
        tell: Callable[[Note], None],
        config: Callable[[], Config],
        entered: Callable[[str], int],
    ) -> None:
        self._config = config
        self.history = HistoryPart(
            parts.history,
            now=now,
            tell=tell,
            keep_s=lambda: config().service.history_keep_s,
            entered=entered,
            energy=parts.energy,
            sleep=parts.clock.sleep,
        )
        self.webhooks = Webhooks(WebhookSender(), tell, lambda: now().wall_s)
        self.tracing = TracingPart(tell, now)

    def follow(self, followers: Followers) -> None:
        """Hear of everything from now on."""
        for turned in (self.history.turned, self.tracing.turned):
            followers.turns.add(turned)
        for waited in (self.history.waited, self.tracing.waited):
            followers.waits.add(waited)
        followers.events.add(self.webhooks.hear)

    def start(self) -> None:
        """Begin to write and to send."""
        self.history.start()
        self.reloaded()
        self.tracing.start(self._config().service.tracing_endpoint)

    def reloaded(self) -> None:
        """Go by the configuration as it is now."""
        self.webhooks.take(self._config().service.webhooks)

    def ends(self) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
        """How each comes to its end, by name, in order."""
        return [
            ("the history", self.history.stop),
            ("the traces", self.tracing.stop),
            ("the webhooks", self.webhooks.stop),
        ]
