import math
import struct

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from steelyard.core.canonical import MAX_DEPTH, canonical, digest, digest_of_list, plain
from steelyard.core.errors import InvalidValue

safe_ints = st.integers(-(2**53) + 1, 2**53 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none() | st.booleans() | safe_ints | floats | text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5),
    max_leaves=30,
)


@given(json_values)
def test_equals_the_reference_implementation(value):
    assert canonical(value) == rfc8785.dumps(value)


@given(st.integers(0, 2**64 - 1))
def test_every_double_equals_the_reference_implementation(bits):
    number = struct.unpack(">d", struct.pack(">Q", bits))[0]
    if math.isfinite(number):
        assert canonical(number) == rfc8785.dumps(number)


@pytest.mark.parametrize(
    ("number", "expected"),  # RFC 8785, appendix B
    [
        (0x0000000000000000, b"0"),
        (0x8000000000000000, b"0"),
        (0x0000000000000001, b"5e-324"),
        (0x7FEFFFFFFFFFFFFF, b"1.7976931348623157e+308"),
        (0x4340000000000000, b"9007199254740992"),
        (0x44B52D02C7E14AF6, b"1e+23"),
        (0x444B1AE4D6E2EF50, b"1e+21"),
        (0x3EB0C6F7A0B5ED8D, b"0.000001"),
        (0x41B3DE4355555554, b"333333333.33333325"),
    ],
)
def test_numbers_of_the_rfc(number, expected):
    assert canonical(struct.unpack(">d", struct.pack(">Q", number))[0]) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**53, "\ud800", {1: 2}, object(), b"x"])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(InvalidValue):
        canonical(value)


def test_deep_and_cyclic_values_are_refused():
    deep: list = []
    for _ in range(10_000):
        deep = [deep]
    cycle: list = []
    cycle.append(cycle)
    for value in (deep, cycle):
        with pytest.raises(InvalidValue, match=str(MAX_DEPTH)):
            canonical(value)
        with pytest.raises(InvalidValue, match=str(MAX_DEPTH)):
            plain(value)


@given(st.dictionaries(text, safe_ints, min_size=2, max_size=6))
def test_digest_ignores_the_order_of_keys(value):
    assert digest(value) == digest(dict(reversed(value.items())))


def test_plain_takes_what_people_return():
    import enum
    from dataclasses import dataclass
    from pathlib import Path

    import numpy as np

    class Colour(enum.IntEnum):
        RED = 3

    @dataclass
    class Point:
        x: int
        at: Path

    assert plain({"p": Point(1, Path("a/b")), "n": np.float64(0.5), "s": {2, 1}, "c": Colour.RED}) == {
        "p": {"x": 1, "at": "a/b"},
        "n": 0.5,
        "s": [1, 2],
        "c": 3,
    }
    with pytest.raises(InvalidValue, match="object"):
        plain({"x": object()})


@given(st.lists(json_values, max_size=6))
def test_the_digest_of_a_stream_is_that_of_the_list(values):
    assert digest_of_list(iter(values)) == digest(values)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), safe_ints, max_size=6))
def test_keys_beyond_ascii_are_sorted_by_utf_16(value):
    value |= {"\U0001f600": 1, "\ufb33": 2, "a": 3}
    assert canonical(value) == rfc8785.dumps(value)
