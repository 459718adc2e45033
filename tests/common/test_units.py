"""Durations and sizes: what people write, what comes back, and what is refused in which words."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualshard.common.errors import UserError
from dualshard.common.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60s", 60.0),
        ("500ms", 0.5),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1e-3s", 0.001),
        (" 3 s ", 3.0),
        ("7", 7.0),
        ("0s", 0.0),
        (2, 2.0),
        (0.25, 0.25),
    ],
)
def test_duration(text: object, seconds: float) -> None:
    parsed = parse_duration(text)
    assert parsed == seconds
    assert type(parsed) is float


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "s",
        "-1s",
        "+1s",
        "1 day",
        "1d",
        "1m30s",
        "nan",
        "inf",
        "1e999s",
        "٣s",
        "60S",
        -1,
        -0.5,
        math.nan,
        math.inf,
        10**400,
        True,
        None,
        [1],
    ],
)
def test_no_duration(wrong: object) -> None:
    with pytest.raises(UserError) as caught:
        parse_duration(wrong, "job.lease")
    assert caught.value.key == "job.lease"


def test_duration_sentence() -> None:
    with pytest.raises(UserError) as caught:
        parse_duration("5 sec", "job.lease")
    assert str(caught.value) == (
        "job.lease = 5 sec: expected a duration in ms, s, m or h; write it like 60s, 500ms or 2m"
    )


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_duration_round_trip(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(60.0, "60s"), (0.5, "0.5s"), (7200, "7200s"), (0.0, "0s")]
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1MiB", 1048576),
        ("64KiB", 65536),
        ("2GiB", 2147483648),
        ("1TiB", 1099511627776),
        ("1MB", 1000000),
        ("10kB", 10000),
        ("1.5KiB", 1536),
        ("1 mib", 1048576),
        ("100", 100),
        ("12B", 12),
        (4096, 4096),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_size(text: object, size: int) -> None:
    parsed = parse_size(text)
    assert parsed == size
    assert type(parsed) is int


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "MiB",
        "-1",
        "1M",
        "1K",
        "2G",
        "0.3B",
        "1e3",
        "nan",
        "9" * 5000,
        -4,
        2**63,
        4.0,
        True,
        None,
    ],
)
def test_no_size(wrong: object) -> None:
    with pytest.raises(UserError) as caught:
        parse_size(wrong, "paramserver.shard_bytes")
    assert caught.value.key == "paramserver.shard_bytes"


def test_size_sentence() -> None:
    with pytest.raises(UserError) as caught:
        parse_size("1M", "paramserver.shard_bytes")
    assert str(caught.value) == (
        "paramserver.shard_bytes = 1M: expected a size in B, KiB, MiB, GiB, KB, MB or GB;"
        " write it like 1MiB"
    )


@given(st.integers(min_value=0, max_value=2**63 - 1))
@settings(deadline=None)
def test_size_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (4, "4B"), (1000, "1000B"), (65536, "64KiB"), (1048576, "1MiB"), (2**40, "1TiB")],
)
def test_format_size(size: int, text: str) -> None:
    assert format_size(size) == text
