"""Who is logged in: tokens that let somebody in once, and the sessions that they become.

Only hashes are kept. What is shown is 32 random bytes, so SHA-256 without salt is enough, and a look-up by hash tells
an attacker's clock nothing: the hash of a guess is nowhere near that of the right one.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from sleepd.api.access import Peer, Role
from sleepd.core.units import Seconds, WallS

TOKENS_LIMIT = 64
SESSIONS_LIMIT = 64
"""Of each the oldest makes room for a new one."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """`key` is the hash of its token. `role` is what was asked for, and no more than the peer had."""

    key: str
    peer: Peer
    role: Role
    until_wall_s: WallS


@dataclass(frozen=True, slots=True)
class Session:
    """`key` is the hash of the cookie's secret. Its role is `role` or what the peer has by now, whichever is less."""

    key: str
    peer: Peer
    role: Role
    since_wall_s: WallS
    until_wall_s: WallS


class Sessions:
    """Tokens and sessions that are good at a moment. Used on the loop's thread only."""

    def __init__(self, restored: Iterable[Session] = ()) -> None:
        self._invitations: dict[str, Invitation] = {}
        self._sessions = {session.key: session for session in restored}

    def invite(self, peer: Peer, role: Role, ttl_s: Seconds, now_s: WallS) -> tuple[str, Invitation]:
        """Return a token that lets somebody in once within `ttl_s`, with the peer's name and this role."""
        self._forget(now_s)
        while len(self._invitations) >= TOKENS_LIMIT:
            del self._invitations[next(iter(self._invitations))]
        token = secrets.token_urlsafe(32)
        made = Invitation(_hash(token), peer, role, now_s + ttl_s)
        self._invitations[made.key] = made
        return token, made

    def enter(self, token: str, lasts_s: Seconds, now_s: WallS) -> tuple[str, Session] | None:
        """Return the secret of a new session and the session; None for a token that is not good, or not any more."""
        self._forget(now_s)
        invitation = self._invitations.pop(_hash(token), None)
        if invitation is None:
            return None
        while len(self._sessions) >= SESSIONS_LIMIT:
            del self._sessions[min(self._sessions.values(), key=lambda session: session.since_wall_s).key]
        secret = secrets.token_urlsafe(32)
        session = Session(_hash(secret), invitation.peer, invitation.role, now_s, now_s + lasts_s)
        self._sessions[session.key] = session
        return secret, session

    def find(self, secret: str, now_s: WallS) -> Session | None:
        """Return the session that a cookie's secret stands for, where it is good."""
        session = self._sessions.get(_hash(secret))
        return session if session is not None and now_s < session.until_wall_s else None

    def end(self, session: Session) -> None:
        self._sessions.pop(session.key, None)

    def change_peers(self, changed: Callable[[Peer], Peer]) -> Mapping[Peer, Peer]:
        """Whose token or session it was is what `changed` makes of them from now on. Returns both, by who they were."""
        found = {each.peer for each in self._invitations.values()} | {each.peer for each in self._sessions.values()}
        peers = {peer: changed(peer) for peer in found}
        self._invitations = {key: replace(each, peer=peers[each.peer]) for key, each in self._invitations.items()}
        self._sessions = {key: replace(each, peer=peers[each.peer]) for key, each in self._sessions.items()}
        return peers

    def all(self, now_s: WallS) -> tuple[Session, ...]:
        """Return every session that is good."""
        self._forget(now_s)
        return tuple(self._sessions.values())

    def _forget(self, now_s: WallS) -> None:
        self._invitations = {key: each for key, each in self._invitations.items() if now_s < each.until_wall_s}
        self._sessions = {key: each for key, each in self._sessions.items() if now_s < each.until_wall_s}


def _hash(shown: str) -> str:
    return hashlib.sha256(shown.encode("utf-8", "surrogatepass")).hexdigest()
