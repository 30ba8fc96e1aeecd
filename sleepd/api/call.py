"""One request on its way through the API: who asks, of what, with which fields."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeAlias

from aiohttp import web

from sleepd.api.access import Caller, Role
from sleepd.api.daemon import Daemon
from sleepd.api.problems import Problem


@dataclass(frozen=True, slots=True)
class Call:
    """One request that its route's role permits; `fields` are its body, checked and complete."""

    request: web.Request
    daemon: Daemon
    caller: Caller
    fields: dict[str, Any]

    @property
    def model(self) -> str:
        """The model of the path. Raises Problem where it is not configured."""
        return self.known(self.request.match_info["name"])

    def known(self, name: str) -> str:
        """Return the name. Raises Problem where no such model is configured."""
        models = self.daemon.world.models
        if name not in models:
            near = get_close_matches(name, list(models), n=1)
            hint = f'did you mean "{near[0]}"?' if near else "sleepctl status lists the models"
            raise Problem("unknown_model", f"no model is named {name[:80]}", found=name[:80], hint=hint)
        return name

    @property
    def is_admin(self) -> bool:
        return self.caller.role is Role.ADMIN

    def require(self, role: Role, what: str) -> None:
        """Raise Problem unless the caller has the role."""
        found = self.caller.role
        if found < role:
            wanted, way = role.name.lower(), self.caller.way_to(role)
            detail = f"you are {self.caller.name}, {what} needs {wanted}; {way}"
            hint = "a new group counts from the next login on" if "group" in way else ""
            raise Problem("not_permitted", detail, wanted=wanted, found=found.name.lower(), hint=hint)


Handler: TypeAlias = Callable[[Call], Awaitable[web.StreamResponse]]
