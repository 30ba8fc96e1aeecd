"""Taking the files as they are now, while everything goes on running."""

import asyncio
from collections.abc import Callable

from sleepd.api.daemon import ReloadOutcome
from sleepd.config.errors import ConfigError
from sleepd.config.secrets import SecretError
from sleepd.config.settings import Config
from sleepd.core.events import SettingsChanged
from sleepd.core.turn import Note
from sleepd.engine.loop import Loop
from sleepd.gateway.app import ListenRefused
from sleepd.ports import Notifier
from sleepd.service.changes import changes
from sleepd.service.listeners import Listeners

TAKEN_WITHIN_S = 5.0
"""How long a reload waits for the turn that takes the new settings; a disk that is full delays it further."""


class Reloading:
    """The settings that hold. `failed` says why the last reload kept them, and is empty where it did not."""

    def __init__(
        self, config: Config, reread: Callable[[Config], Config], notifier: Notifier, tell: Callable[[Note], None]
    ) -> None:
        self.config, self.failed = config, ""
        self._reread, self._notifier, self._tell = reread, notifier, tell
        self._one_at_a_time = asyncio.Lock()

    async def reload(self, loop: Loop, listeners: Listeners) -> ReloadOutcome:
        """Take the files as they are now; where they do not hold, the running settings are kept and it is said."""
        async with self._one_at_a_time:
            self._notifier.reloading()
            self._notifier.status("reloading the configuration")
            try:
                return await self._take(await asyncio.to_thread(self._reread, self.config), loop, listeners)
            except ConfigError as error:
                return self._keep(error)
            finally:
                self._notifier.ready()

    def _keep(self, error: ConfigError) -> ReloadOutcome:
        errors = tuple(str(problem) for problem in error.problems)
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        self._tell(Note("reload_failed", "", f"kept the running settings: {errors[0]}{more}"))
        self.failed = f"reload failed, running settings kept: {errors[0]}{more}"
        self._notifier.status(self.failed)
        return ReloadOutcome(errors=errors)

    async def _take(self, config: Config, loop: Loop, listeners: Listeners) -> ReloadOutcome:
        changed = changes(self.config, config)
        self.config, self.failed = config, ""
        loop.submit(SettingsChanged(config.settings))
        # The answer is a promise: who adds a model and asks for it next must find it.
        await loop.until(lambda world: world.settings is config.settings, TAKEN_WITHIN_S)
        try:
            listeners.take(config.service)
        except (SecretError, ListenRefused) as error:
            self._tell(Note("failure", "", f"the gateway keeps its keys: {error}", {"code": "keys"}))
        self._tell(Note("reloaded", "", "; ".join(changed) or "reloaded, nothing changed"))
        return ReloadOutcome(changed=changed)
