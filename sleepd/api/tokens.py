"""Tokens that let somebody in at the page: asked for at the socket, where the kernel says who asks."""

from aiohttp import web

from sleepd.api.access import Role
from sleepd.api.call import Call
from sleepd.api.fields import Choice, Number
from sleepd.api.problems import Problem, respond
from sleepd.wire import format_time

LONGEST_TTL_S = 86_400.0

TOKEN_FIELDS = (
    Choice(
        "role",
        ("", "viewer", "operator", "admin"),
        "",
        "what its session may do, no more than you may; empty: as you, but admin only where it is asked for",
    ),
    Number("ttl_s", 300.0, "how long it may be used", least=1.0, most=LONGEST_TTL_S),
)


async def post_token(call: Call) -> web.StreamResponse:
    wanted = call.fields["role"]
    role = Role[wanted.upper()] if wanted else min(call.caller.role, Role.OPERATOR)
    call.require(role, f"a token of the role {role.name.lower()}")
    made = call.daemon.let_in(call.caller.peer, role, call.fields["ttl_s"])
    if made is None:
        detail, hint = "there is no page here", "set [ui] enabled = true and restart sleepd; docs/ui.md says more"
        raise Problem("invalid", detail, wanted="[ui] enabled = true", found="false", hint=hint, status=404)
    return respond(
        200,
        {
            "token": made.token,
            "role": made.role.name.lower(),
            "until": format_time(made.until_wall_s),
            "pages": list(made.pages),
        },
    )
