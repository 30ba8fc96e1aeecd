"""The routes of the socket API that the page uses: looking, and what its buttons do. No others are here."""

from sleepd.api.routes import ROUTES

CONTROL = "/sleepd"
"""What stands before their paths."""

_USED = {
    ("GET", "/v1/status"),
    ("GET", "/v1/events"),
    ("GET", "/v1/holds"),
    ("GET", "/v1/history/timeline"),
    ("GET", "/v1/history/report"),
    ("GET", "/v1/models/{name}/explain"),
    *(("POST", f"/v1/models/{{name}}/{verb}") for verb in ("wake", "sleep", "start", "stop", "reset", "pin", "unpin")),
}

SHOWN = tuple(route for route in ROUTES if (route.method, route.path) in _USED)
