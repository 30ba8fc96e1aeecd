"""The table of dialects, and what single releases answer."""

import pytest

from sleepd.sim.dialects import DIALECTS, NEWEST_MINOR, OLDEST_MINOR, dialect_of
from tests.unit.sim_vllm_bench import ALL, Bench


def test_rows_cover_every_release_once():
    since = [row.since for row in DIALECTS]
    assert since == sorted(set(since))
    assert since[0] == (OLDEST_MINOR, 0)
    assert {dialect_of(f"0.{minor}.0").since[0] <= minor for minor in range(OLDEST_MINOR, NEWEST_MINOR + 1)} == {True}


@pytest.mark.parametrize(
    ("version", "family"),
    [
        ("0.8.5", "0.10"),
        ("0.10.0", "0.10"),
        ("0.10.2", "0.11"),
        ("0.11.2", "0.11"),
        ("0.15.1", "0.12"),
        ("0.16.0", "0.16"),
        ("0.17.1", "0.22"),
        ("0.22", "0.22"),
        ("v0.23.0rc1", "0.22"),
        ("0.27.1", "0.24"),
        ("0.28.0", "0.28"),
        ("0.30.0+cpu", "0.28"),
        ("0.31.0", "0.31"),
        ("0.32.0", "0.32"),
        ("0.33.0.dev12+gabc", "0.32"),
    ],
)
def test_versions_resolve_to_their_row(version, family):
    assert dialect_of(version).family == family


@pytest.mark.parametrize("version", ["0.34.0", "0.7.3", "1.0.0", "", "0.x", "0.321"])
def test_a_version_without_a_row_is_refused_in_words(version):
    with pytest.raises(ValueError, match=r"wanted 0\.8 to 0\.33"):
        dialect_of(version)


@pytest.mark.parametrize("version", ALL)
def test_sleep_and_wake_bodies(version):
    bench = Bench(version)
    json_bodies = version == "0.32.0"
    assert bench.do("/sleep?level=1").body == ({"status": "sleeping", "level": 1} if json_bodies else None)
    woken = bench.do("/wake_up?tags=weights")
    assert woken.body == ({"status": "sleeping", "tags": ["weights"]} if json_bodies else None)
    assert bench.do("/wake_up?tags=kv_cache").status == 200
    assert bench.is_sleeping() is False


@pytest.mark.parametrize(
    ("version", "status"), [("0.16.0", 500), ("0.17.1", 500), ("0.18.1", 400), ("0.31.0", 400), ("0.32.0", 400)]
)
def test_a_level_that_is_no_integer(version, status):
    bench = Bench(version)
    call = bench.post("/sleep?level=abc")
    assert call.status == status
    assert bench.is_sleeping() is False
    assert isinstance(call.body, str) is (status == 500)


def test_levels_out_of_range_are_refused_only_since_0_32():
    assert Bench("0.32.0").post("/sleep?level=7").status == 400
    old = Bench("0.31.0")
    assert old.do("/sleep?level=7").status == 200
    assert old.now.mapped_blocks == {"weights": (0, 2), "kv_cache": (0, 2)}


@pytest.mark.parametrize(("version", "body"), [("0.24.0", None), ("0.26.0", {"success": True})])
def test_reset_prefix_cache_says_success_since_0_26(version, body):
    assert Bench(version).post("/reset_prefix_cache").body == body


def test_reset_prefix_cache_fails_while_a_request_holds_blocks():
    bench = Bench()
    bench.chat()
    assert bench.post("/reset_prefix_cache").body == {"success": False}
    old = Bench("0.22.1")
    old.chat()
    assert (old.post("/reset_prefix_cache").status, old.post("/reset_prefix_cache").body) == (200, None)


def test_engine_failures_are_plain_text_before_0_18():
    old, new = Bench("0.17.1").rpc("nonsense"), Bench("0.18.1").rpc("nonsense")
    assert (old.status, old.body) == (500, "Internal Server Error")
    assert new.status == 500
    assert new.body["error"]["message"] == (
        "Call to collective_rpc method failed: Method 'nonsense' is not implemented."
    )
    assert new.reply.closes_connection


def test_openapi_lists_the_routes_of_the_release():
    def paths(version):
        return Bench(version).get("/openapi.json").body["paths"]

    assert "parameters" in paths("0.32.0")["/sleep"]["post"]
    assert "parameters" not in paths("0.31.0")["/sleep"]["post"]
    assert "/release_kv_cache_memory" in paths("0.31.0")
    assert "/release_kv_cache_memory" not in paths("0.30.0")
    assert "/abort_requests" not in paths("0.24.0")
    assert "/sleep" in paths("0.16.0")


def test_no_dev_mode_hides_the_control_routes_only():
    bench = Bench(dev_mode=False)
    for target in ("/sleep", "/wake_up", "/collective_rpc", "/reset_prefix_cache", "/pause"):
        assert bench.post(target).status == 404
    assert [bench.get(t).status for t in ("/is_sleeping", "/server_info", "/health", "/v1/models")] == [
        404,
        404,
        200,
        200,
    ]


def test_partial_wake_shows_awake_in_the_gauge_until_0_30():
    for version, shown in (("0.28.0", "awake"), ("0.31.0", "weights_offloaded")):
        bench = Bench(version)
        bench.do("/sleep?level=1")
        bench.do("/wake_up?tags=weights")
        assert bench.now.sleep_state == shown


def test_pause_refuses_new_requests_since_0_33_but_sleep_does_not():
    bench = Bench("0.33.0")
    bench.post("/pause")
    assert bench.chat().status == 503
    bench.post("/resume")
    bench.do("/sleep?level=1")
    assert bench.chat().waiting


def test_api_key_guards_v1_only():
    bench = Bench(api_key="sekrit")
    assert bench.get("/v1/models").status == 401
    assert bench.send("GET", "/v1/models", headers={"authorization": "Bearer sekrit"}).status == 200
    assert bench.do("/sleep").status == 200
    assert bench.now.http_requests == {("/v1/models", "GET", "2xx"): 1, ("/sleep", "POST", "2xx"): 1}
