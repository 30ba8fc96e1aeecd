"""What stands in examples/ for programs that cannot run here: it parses, and names what sleepd serves."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from sleepd.gateway.lane import wait_of
from sleepd.gateway.routes import ROUTES, Page, find_route

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
GATEWAY = "127.0.0.1:8800"
"""Where sleepd-gateway.socket listens, and docs/gateway.md."""
FORWARD_AUTH = {
    *("address", "trustForwardHeader", "authResponseHeaders", "authResponseHeadersRegex", "authRequestHeaders", "tls"),
    *("addAuthCookiesToResponse", "headerField", "forwardBody", "maxBodySize", "preserveLocationHeader"),
    "preserveRequestMethod",
}
"""Options of Traefik's middleware, as doc.traefik.io has them (v3.3, "ForwardAuth")."""
FORWARD_AUTH_S = 30.0
"""How long it waits for an answer, v2 and v3: no option (github.com/traefik/traefik/issues/9857 asks for one), so it
stands in its source alone: pkg/middlewares/auth/forward.go."""


def read(name: str) -> Any:
    return yaml.safe_load((EXAMPLES / name).read_text())


def test_the_gateway_listens_where_the_examples_ask() -> None:
    assert f"ListenStream={GATEWAY}\n" in (ROOT / "systemd" / "sleepd-gateway.socket").read_text()


def test_traefik_is_told_only_what_it_documents() -> None:
    http = read("forward-auth/traefik.yml")["http"]
    assert http.keys() == {"routers", "middlewares", "services"}
    (router,) = http["routers"].values()
    assert router["service"] in http["services"]
    wakes, strips = (http["middlewares"][name] for name in router["middlewares"])
    asked = wakes["forwardAuth"]
    assert asked.keys() <= FORWARD_AUTH
    address = urlsplit(asked["address"])
    assert (address.scheme, address.netloc) == ("http", GATEWAY)
    route, model = find_route(f"{address.path}?{address.query}".encode())
    assert (route.page, model) == (Page.GATE, "chat")
    assert 0.0 < wait_of(f"{address.path}?{address.query}".encode()) < FORWARD_AUTH_S
    assert router["rule"] == f"PathPrefix(`{strips['stripPrefix']['prefixes'][0]}/v1/`)"
    (server,) = http["services"]["chat"]["loadBalancer"]["servers"]
    assert urlsplit(server["url"]).hostname == "127.0.0.1"


def litellm_base() -> str:
    (model,) = read("clients/litellm.yaml")["model_list"]
    assert model["litellm_params"]["model"] == f"hosted_vllm/{model['model_name']}"
    return str(model["litellm_params"]["api_base"])


def open_webui_base() -> str:
    service = read("clients/open-webui.yml")["services"]["open-webui"]
    assert service["network_mode"] == "host", "without keys the gateway answers on loopback only"
    assert all(isinstance(value, str) for value in service["environment"].values())
    return str(service["environment"]["OPENAI_API_BASE_URL"])


@pytest.mark.parametrize("base", [litellm_base, open_webui_base])
def test_clients_are_sent_to_the_gateways_own_routes(base: Any) -> None:
    url = urlsplit(base())
    assert url.netloc == GATEWAY
    for path in ("/chat/completions", "/models"):
        assert (url.path + path).encode() in ROUTES
