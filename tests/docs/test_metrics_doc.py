"""docs/metrics.md is what the families say; their names keep Prometheus' rules, and do not change silently."""

import re
from pathlib import Path

from sleepd.metrics_doc import metrics_page
from sleepd.obs.families import FAMILIES, Kind

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "metrics.md"
NAMES = Path(__file__).with_name("metric_names.txt")
"""Name, type and labels of each family, as others rely on them. One that changes needs a line in the changelog."""

SHORT_UNITS = {"s", "sec", "secs", "ms", "us", "ns", "b", "kb", "mb", "gb", "kib", "mib", "gib", "pct", "percent"}
WRONG_UNITS = {"milliseconds", "minutes", "hours", "days", "kilobytes", "megabytes", "gigabytes", "bits", "percentage"}


def test_the_page_is_what_the_generator_prints() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == metrics_page(page), "write it anew: python -m sleepd.metrics_doc docs/metrics.md"


def test_names_types_and_labels_are_those_that_were_published() -> None:
    now = [" ".join((f.name, f.kind, *f.labels)) for f in FAMILIES]
    assert now == NAMES.read_text(encoding="utf-8").splitlines(), f"metrics are API: update {NAMES.name} knowingly"


def test_names_keep_the_rules_of_promtool_check_metrics() -> None:
    """Those of prometheus/client_golang, testutil/promlint/validations; the real promtool runs in .ci/run."""
    for family in FAMILIES:
        name, words = family.name, family.name.split("_")
        assert re.fullmatch(r"sleepd_[a-z][a-z0-9_]*", name), name
        assert family.meaning, name
        assert name.endswith("_total") is (family.kind is Kind.COUNTER), name
        assert not name.endswith(("_count", "_sum", "_bucket")), name
        assert not set(words) & {"gauge", "counter", "histogram", "summary", "untyped", "metric"}, name
        assert not set(words) & (SHORT_UNITS | WRONG_UNITS), name
        assert bool(family.buckets) is (family.kind is Kind.HISTOGRAM), name
        assert list(family.buckets) == sorted(set(family.buckets)), name
        for label in family.labels:
            assert re.fullmatch(r"[a-z][a-z_]*", label), name
            assert label not in ("le", "quantile", "job", "instance"), name
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_every_query_and_name_that_is_written_anywhere_exists() -> None:
    known = {family.name for family in FAMILIES}
    texts = [PAGE, ROOT / "README.md", *(p for p in (ROOT / "examples").rglob("*") if p.is_file())]
    for path in texts:
        # What stands between colons is a recorded series.
        for name in re.findall(r"(?<![:\w])sleepd_[a-z_]+", path.read_text(encoding="utf-8")):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert name in known or base in known, f"{path.name}: {name}"
