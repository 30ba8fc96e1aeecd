"""The page's own files, read once, and what every answer says about itself."""

import hashlib
from importlib.resources import files

from aiohttp import web

from sleepd.api.handling import Next

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
INDEX = "index.html"
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def add_files(app: web.Application) -> None:
    """Serve what lies in sleepd/ui/static below /ui, and index.html as /ui itself. Reads files."""
    for file in files("sleepd.ui").joinpath("static").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix not in _TYPES:
            continue
        show = _shown(file.read_bytes(), _TYPES[suffix])
        for path in ("/ui", "/ui/") if file.name == INDEX else (f"/ui/{file.name}",):
            app.router.add_get(path, show)


def _shown(body: bytes, content_type: str) -> Next:
    """Return what answers with these bytes, or that the browser has them already."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'

    async def show(request: web.Request) -> web.StreamResponse:
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)

    return show
