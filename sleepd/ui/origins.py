"""From which page a request comes: ours under one of its own names, or somebody else's.

A foreign page can make a browser send requests here: with its Origin, with `Sec-Fetch-Site`, or, where its own name was
made to resolve to this host, under that name (DNS rebinding). Each is looked at; a cookie alone proves nothing, the
more so as cookies do not know ports: every page of 127.0.0.1 is "same site" to them.
Sources: fetch.spec.whatwg.org (Origin), w3.org/TR/fetch-metadata.
"""

from collections.abc import Collection, Mapping

from sleepd.api.problems import Problem
from sleepd.gateway.door import is_own_name

_SAFE_SITES = ("same-origin", "none")


def check_host(host: str, origins: Collection[str]) -> None:
    """Raise Problem for a name that is neither this host's own nor that of an origin in [ui] origins."""
    if is_own_name(host.encode("latin-1", "replace")) or any(origin.partition("://")[2] == host for origin in origins):
        return
    raise Problem(
        "not_permitted",
        "the page is not reached under this name",
        wanted=", ".join(["localhost", "127.0.0.1", *sorted(origins)]),
        found=host[:80],
        hint="name how browsers reach it in [ui] origins, or forward the port: ssh -L 9800:127.0.0.1:9800 HOST",
    )


def check_site(headers: Mapping[str, str]) -> None:
    """Raise Problem where the browser says that a foreign page asks."""
    site = headers.get("Sec-Fetch-Site", "none").lower()
    if site not in _SAFE_SITES:
        detail = "a page of another origin asks"
        raise Problem("not_permitted", detail, wanted=" or ".join(_SAFE_SITES), found=f"Sec-Fetch-Site: {site[:40]}")


def check_origin(headers: Mapping[str, str], host: str, origins: Collection[str]) -> str:
    """Return the origin of the page that wants something done. Raises Problem unless it is ours."""
    found = headers.get("Origin", "").lower()
    own = f"http://{host}".lower()
    if found and (found in origins or (found == own and is_own_name(host.encode("latin-1", "replace")))):
        return found
    raise Problem(
        "not_permitted",
        "wanted the page's own origin" if found else "wanted an Origin, as browsers send it",
        wanted=", ".join([own, *sorted(origins)]),
        found=found[:80] or "none",
        hint="an address through a proxy must stand in [ui] origins",
    )
