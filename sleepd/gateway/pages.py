"""What the gateway answers by itself: the list of models, in the shapes of both APIs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sleepd.core.life import LEVEL
from sleepd.core.world import public_state
from sleepd.gateway.directory import names_of
from sleepd.gateway.errors import Refusal, json_answer
from sleepd.gateway.routes import Page

if TYPE_CHECKING:
    from sleepd.gateway.exchange import Exchange
    from sleepd.gateway.front import Front


def answer_page(front: Front, x: Exchange) -> None:
    """Answer a page that needs no server. Raises Refusal."""
    entries = model_entries(front)
    body: Any
    if x.route is not None and x.route.page is Page.MODEL:
        body = next((entry for entry in entries if entry["id"] == x.name), None)
        if body is None:
            raise Refusal(404, "model_not_found", f"the model {x.name} does not exist here", param="model")
    else:
        ids = [entry["id"] for entry in entries]
        ends = {"first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}
        body = {"object": "list", "data": entries, "has_more": False, **ends}
    text = json.dumps(body, ensure_ascii=False).encode()
    x.client.write(json_answer(200, text, fields=x.cors, closes=not x.keep_alive, bare=x.bare))
    front.tell_end(x, "2xx")
    x.client.finished(x)


def model_entries(front: Front) -> list[dict[str, Any]]:
    """Return one entry for each name that a request may use: sleepers too, with state and ETA.

    OpenAI's members and Anthropic's do not collide, so that one answer serves the clients of both.
    """
    daemon = front.daemon
    world, entries = daemon.world, []
    for name, model in names_of(world).items():
        record = world.models[model]
        facts, eta_s = record.facts, daemon.eta_s(model)
        created = int(record.since_wall_s)
        lora = facts is not None and name in facts.lora_names and name != model
        entries.append(
            {
                "id": name,
                "object": "model",
                "created": created,
                "owned_by": "vllm",
                "root": facts.model_path if facts is not None and facts.model_path else model,
                "parent": model if lora else None,
                "type": "model",
                "display_name": name,
                "created_at": datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z"),
                "sleepd": {
                    "model": model,
                    "state": public_state(world, model),
                    "level": LEVEL[record.life.state],
                    "eta_s": None if eta_s is None else round(eta_s, 3),
                },
            }
        )
    return entries
