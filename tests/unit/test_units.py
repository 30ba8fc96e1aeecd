"""Sizes, durations and shares: what operators write, and what they read back."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sleepd.core.units import (
    GIB,
    KIB,
    MIB,
    TIB,
    UnitError,
    format_duration,
    format_share,
    format_size,
    format_wall,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
)

BOUNDED = settings(max_examples=300, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0B", 0),
        ("512B", 512),
        ("1KiB", KIB),
        ("24GiB", 24 * GIB),
        (" 24 GiB ", 24 * GIB),
        ("1.5TiB", 3 * TIB // 2),
        ("0.3MiB", round(0.3 * MIB)),
        ("9007199254740993B", 9007199254740993),
    ],
)
def test_sizes_mean_bytes(text, wanted):
    assert parse_size(text) == wanted


@pytest.mark.parametrize("text", ["", "24", "24GB", "24gib", "GiB", "-1GiB", "1e3GiB", "1,5GiB", "24GiB free", "nanB"])
def test_what_is_no_size_is_refused_in_words(text):
    with pytest.raises(UnitError, match='wanted a size such as "24GiB"') as raised:
        parse_size(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize("text", ["9" * 400 + "GiB", "8388608TiB"])
def test_a_size_no_machine_has_is_refused(text):
    with pytest.raises(UnitError, match="wanted a size below 8388608TiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "wanted_s"),
    [("0s", 0.0), ("250ms", 0.25), ("90s", 90.0), ("5m", 300.0), ("1h30m", 5400.0), ("2d", 172800.0), ("1w", 604800.0)],
)
def test_durations_mean_seconds(text, wanted_s):
    assert parse_duration(text) == pytest.approx(wanted_s)


@pytest.mark.parametrize("text", ["", "90", "5 m", "m", "-5s", "1h30", "30x", "1e3s", "5m later", "inf"])
def test_what_is_no_duration_is_refused_in_words(text):
    with pytest.raises(UnitError, match='wanted a duration such as "90s"') as raised:
        parse_duration(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize("text", ["9" * 400 + "s", "36501d"])
def test_a_duration_nobody_lives_to_see_is_refused(text):
    with pytest.raises(UnitError, match="wanted a duration of at most 36500d"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "wanted"), [("0%", 0.0), ("10%", 0.1), ("12.5%", 0.125), ("100%", 1.0)])
def test_shares(text, wanted):
    assert parse_share(text) == pytest.approx(wanted)


@pytest.mark.parametrize("text", ["", "10", "0.1", "101%", "-1%", "ten%"])
def test_what_is_no_share_is_refused_in_words(text):
    with pytest.raises(UnitError, match='wanted a share such as "10%"'):
        parse_share(text)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0, "0B"), (1023, "1023B"), (KIB, "1KiB"), (1536, "1.5KiB"), (80 * GIB, "80GiB"), (TIB, "1TiB"), (-GIB, "-1GiB")],
)
def test_sizes_are_printed_for_people(value, wanted):
    assert format_size(value) == wanted


@pytest.mark.parametrize(
    ("value_s", "wanted"),
    [
        (0, "0s"),
        (0.02, "20ms"),
        (0.3, "0.3s"),
        (45, "45s"),
        (45.4, "45s"),
        (250, "4m10s"),
        (3600, "1h"),
        (3605, "1h"),
        (5400, "1h30m"),
        (7199, "2h"),
        (90000, "1d1h"),
    ],
)
def test_durations_are_printed_for_people(value_s, wanted):
    assert format_duration(value_s) == wanted


def _exact_sizes():
    """Whole and half numbers of each unit: what one decimal expresses exactly."""
    halves = st.integers(2, 2047).flatmap(lambda h: st.sampled_from([h * f // 2 for f in (KIB, MIB, GIB, TIB)]))
    return st.integers(0, 1023) | halves


def _exact_durations():
    """Whole seconds that two neighbouring units express: what format_duration does not round."""
    return (
        st.integers(0, 3599)
        | st.integers(60, 24 * 60 - 1).map(lambda m: m * 60)
        | st.integers(24, 24 * 1000).map(lambda h: h * 3600)
    )


@BOUNDED
@given(_exact_sizes())
def test_parsing_a_printed_size_gives_it_back(value):
    assert parse_size(format_size(value)) == value


@BOUNDED
@given(st.integers(0, 1 << 50))
def test_a_printed_size_is_off_by_half_a_decimal_at_most(value):
    assert abs(parse_size(format_size(value)) - value) <= max(0.5, 0.0500001 * value)


@BOUNDED
@given(_exact_durations())
def test_parsing_a_printed_duration_gives_it_back(value_s):
    assert parse_duration(format_duration(value_s)) == value_s


@BOUNDED
@given(st.integers(0, 10**7))
def test_a_printed_duration_is_off_by_half_its_smaller_unit_at_most(value_s):
    smaller_s = 3600 if value_s >= 86400 else 60 if value_s >= 3600 else 0
    assert abs(parse_duration(format_duration(value_s)) - value_s) <= smaller_s / 2


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("2/min", (2.0, 60.0)), ("0.5/s", (0.5, 1.0)), ("10 / h", (10.0, 3600.0)), ("3/d", (3.0, 86400.0))],
)
def test_rates_mean_a_count_and_a_time(text, wanted):
    assert parse_rate(text) == wanted


@pytest.mark.parametrize("text", ["", "2", "/min", "2/minute", "-2/min", "2/min 3/h", "two/min"])
def test_what_is_no_rate_is_refused_in_words(text):
    with pytest.raises(UnitError, match='wanted a rate such as "2/min"'):
        parse_rate(text)


@BOUNDED
@given(st.integers(0, 10**6), st.sampled_from([("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86_400.0)]))
def test_a_rate_is_a_count_and_a_time(count, unit):
    assert parse_rate(f"{count}/{unit[0]}") == (count, unit[1])


@BOUNDED
@given(st.integers(0, 10000))
def test_a_share_is_read_back(hundredths):
    share = hundredths / 10000
    assert parse_share(format_share(share)) == pytest.approx(share, abs=1e-9)


@given(st.integers(0, 8_000_000_000))
def test_a_moment_reads_as_datetime_writes_it(wall_s):
    assert format_wall(wall_s + 0.25) == datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
