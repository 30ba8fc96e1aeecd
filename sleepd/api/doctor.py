"""The daemon's part of `sleepctl doctor`."""

from aiohttp import web

from sleepd.api.access import Role
from sleepd.api.call import Call
from sleepd.api.problems import respond
from sleepd.doctor.findings import Finding, by_check, ok, warn


async def get_doctor(call: Call) -> web.StreamResponse:
    findings = [_judge_caller(call), *await call.daemon.examine()]
    return respond(200, {"findings": [finding.body for finding in by_check(findings)]})


def _judge_caller(call: Call) -> Finding:
    role = call.caller.role
    judged = ok if role >= Role.OPERATOR else warn
    return judged("daemon.role", f"you are {call.caller.name}: {role.name.lower()}")
