"""/metrics in the daemon: what is counted, the moment that is told, and where it is listened for beside the API."""

from collections.abc import Callable

from sleepd import wire
from sleepd.api.sockets import SocketFiles
from sleepd.config.listen import Listen
from sleepd.obs.exposition import Metrics
from sleepd.obs.gauges import Moment
from sleepd.obs.pages import Answer, Pages, json_answer
from sleepd.service.binding import bind, files_of
from sleepd.service.followers import Followers
from sleepd.service.ui import UiPart

KEY = "[metrics] listen"


class MetricsPart:
    """Counts from `follow` on; listens between `start` and `close`, where that is configured."""

    def __init__(self, moment: Callable[[], Moment]) -> None:
        self._moment, self._metrics = moment, Metrics()
        self._pages = Pages({"/metrics": self._show_metrics, "/healthz": _show_health, "/readyz": self._show_ready})
        self._files = SocketFiles()
        self.tally = self._metrics.tally

    def follow(self, followers: Followers) -> None:
        """Count what the daemon does from now on."""
        followers.turns.add(self.tally.turned)
        followers.events.add(lambda event: self.tally.told(event.note.kind, event.note.model))
        followers.waits.add(self.tally.held)

    async def start(self, addresses: tuple[Listen, ...], mode: int, ui: UiPart) -> None:
        """Listen on these addresses, unix ones with this mode, with the page as a guest. Raises SocketTaken."""
        sockets = bind(addresses, mode, KEY)
        self._files = files_of(addresses)
        await self._pages.start(sockets, ui.annex("metrics", sockets))

    async def page(self, accept: str) -> tuple[str, bytes]:
        """Return content type and body of /metrics."""
        return await self._metrics.page(self._moment(), accept)

    async def close(self) -> None:
        await self._pages.close()
        self._files.remove()

    async def _show_metrics(self, accept: str) -> Answer:
        content_type, body = await self.page(accept)
        return Answer(200, content_type, body)

    async def _show_ready(self, accept: str) -> Answer:
        unread = wire.unread_models(self._moment().world)
        return json_answer(503 if unread else 200, {"ready": not unread, "waiting_for": unread})


async def _show_health(accept: str) -> Answer:
    return json_answer(200, {"ok": True})
