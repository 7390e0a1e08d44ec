"""JavaScript's numbers, dates and texts at their edges; whole payloads are compared with node in test_reference."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernel.usage.keys import javascript

DATES = datetime(1, 1, 2), datetime(9999, 12, 30)  # noqa: DTZ001  hypothesis adds the zone


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(-0.0)
@example(123456789012345680000.0)
@example(1e21)
@example(1e-6)
@example(9.5e-7)
@example(5e-324)
def test_a_number_as_text_is_the_shortest_that_reads_as_the_same_number(value: float) -> None:
    written = javascript.text(value)
    assert javascript.parse_float(written) == value
    assert re.fullmatch(r"-?(0|[1-9]\d*)(\.\d*[1-9])?(e[+-]\d+)?", written)
    assert ("e" in written) == (value != 0 and not 1e-6 <= abs(value) < 1e21)


@given(
    st.datetimes(*DATES, timezones=st.just(UTC)),
    st.integers(-1439, 1439),
    st.sampled_from([":", ""]),
)
def test_a_date_is_the_instant_that_its_offset_says(at: datetime, minutes: int, colon: str) -> None:
    milliseconds = at.microsecond // 1000
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    text = f"{at.year:04d}-{at:%m-%dT%H:%M:%S}.{milliseconds:03d}{sign}{hours:02d}{colon}{rest:02d}"
    seconds = (at.replace(microsecond=0) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() - minutes * 60
    assert javascript.parse_date(text) == seconds * 1000 + milliseconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-11-14T22:14", 1_700_000_040_000),
        ("2023-11-14T22:14:20", 1_700_000_060_000),
        ("2023-11-14T22:14:20z", 1_700_000_060_000),
        ("2023-11-14T22:14:20.1", 1_700_000_060_100),
        ("2023-11-14T22:14:20.1239999999999", 1_700_000_060_123),
        ("2023-11-14T22:14:20.012345678", 1_700_000_060_012),
        ("2023-11-14T22:14:20.0123456789", 1_700_000_060_123),  # the zeros in front are lost
        ("2023-11-14T22:14:20Z\0 whatever", 1_700_000_060_000),
        ("2023-11-13T24:00", 1_699_920_000_000),
        ("2023-02-31T00:00Z", 1_677_801_600_000),  # 3 March
        ("0000-01-01T00:00Z", -62_167_219_200_000),
        ("9999-12-31T24:00:00.000", 253_402_300_800_000),
        *[
            (text, math.nan)
            for text in (
                "2023-11-14T",
                "2023-11-14T22",
                "2023-11-14T2214",
                "2023-11-14T22:14:20.",
                "2023-11-14T22:14:20,5",
                "2023-11-14T22:14:60",
                "2023-11-14T25:00",
                "2023-11-14T24:00:01",
                "2023-11-14T24:00:00.0000000001",
                "2023-11-00T22:14",
                "2023-11-32T22:14",
                "2023-13-14T22:14",
                "2023-11-14T22:14:20+3",
                "2023-11-14T22:14:20+03",
                "2023-11-14T22:14:20+24:00",
                "2023-11-14T22:14:20 Z",
                "2023-11-14T22:14:20Z ",
                "2023-11-14T22:14:20Z\n",
                "2023-11-14T22:14:20Z (UTC)",
                "2023-11-14Tue 22:14",
                "٢٠٢٣-11-14T22:14",
            )
        ],
    ],
)
def test_a_date_is_read_as_v8_reads_it(text: str, expected: float) -> None:
    assert javascript.parse_date(text) == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12abc", 12),
        (" \ufeff\u2028 -1.5e3x", -1500),
        ("+.5", 0.5),
        ("5.", 5),
        ("5.e1", 50),
        ("1e", 1),
        ("1e+", 1),
        ("0x1F", 0),
        ("1_000", 1),
        ("1e400", math.inf),
        ("-Infinityx", -math.inf),
        ("0e99999999999999999999", 0),
        ("1" * 400, math.inf),
        *[
            (text, math.nan)
            for text in ("", ".", "e5", "- 5", "infinity", "nan", "\x1c5", "\x855", "٣", "NaN")
        ],
    ],
)
def test_a_text_gives_the_number_it_begins_with(text: str, expected: float) -> None:
    assert javascript.parse_float(text) == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


def test_trimming_takes_what_javascript_calls_space_and_nothing_else() -> None:
    trimmed = [chr(code) for code in range(0x10000) if javascript.trim(chr(code)) == ""]
    python = {character for character in map(chr, range(0x10000)) if character.isspace()}
    assert sorted(python ^ set(trimmed)) == ["\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\ufeff"]
    assert "\ufeff" in trimmed


@given(
    st.text(alphabet=st.characters(codec=None) | st.sampled_from("\U0001f600\ud83d\ude00a")),
    st.integers(0, 12),
)
def test_a_cut_text_has_at_most_so_many_units_and_is_the_beginning(text: str, units: int) -> None:
    whole, cut = (each.encode("utf-16-le", "surrogatepass") for each in (text, javascript.cut(text, units)))
    assert cut == whole[: 2 * units]


def test_arrays_may_nest_deeper_than_the_stack() -> None:
    nested: list = []
    for _ in range(20_000):
        nested = [nested]
    assert javascript.text(nested) == ""
    assert javascript.text([nested, 1]) == ",1"
