"""Lines of a dispute file: what PostgreSQL's COPY writes, the same rules in Python, and that they can be read again."""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from kernel.usage import canonical, verify
from tests.unit.usage.packs import MONTH, SITE, TENANT, row

ODD = [
    "",
    " ",
    'a "quoted" word',
    '"',
    "a,b",
    "two\nlines",
    "lone\rreturn",
    "carriage\r\nreturn",
    "\t=1+1",
    "=1+1",
    "+49 30 1234",
    "-1",
    "@cmd",
    "  =1+1",
    "a;=1+1",
    "a; @b;'c",
    "'=1+1",
    "'",
    "''",
    "it's",
    "\uff1d1+1",
    "back\\slash",
    "\\u000a",
    "\\.",
    "\\N",
    "NULL",
    "%s %% :name",
    "bell\x07 delete\x7f next\x85line",
    "line\u2028and paragraph\u2029",
    "right to left \u202egnp.exe",
    "\ufeffmark",
    "smile \U0001f600 and family \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "çağrı ş İı ẞ",
    "e\u0301 and é",
    "\U0010ffff\uffff",
    "x" * 4096,
    "\n" * 4096,
    '=",' * 1365,
]
TEXTS = st.text(
    st.one_of(
        st.sampled_from("=+-@;' \t\r\n\\u0\"',\x85\u2028\ufeff\uff1d"),
        st.characters(exclude_characters="\0", exclude_categories=["Cs"]),
    ),
    max_size=30,
)
DEFINITION = """
    create schema usage;
    create table usage.ingest_idempotency (
        tenant_id uuid, site_id uuid, idempotency_key text collate "C", created_at timestamptz, billing_state text,
        billable boolean, billing_reason text, year_month text, idempotency_version smallint, event_category text,
        event_action text, event_label text, occurred_at timestamptz, plan_id uuid
    )
"""


@pytest.fixture(scope="module")
def ledger(_create: Callable[[str, str], str]) -> Iterator[sa.Connection]:
    """The columns that the statement reads, and no guards: the rows come from no gate."""
    engine = sa.create_engine(_create("dispute_lines", "template0"))
    with engine.connect() as connection:
        connection.execute(sa.text(DEFINITION))
        connection.commit()
        yield connection
    engine.dispose()


def copied(connection: sa.Connection, rows: list[dict[str, Any]], **session: str) -> list[bytes]:
    """The lines that COPY writes of these rows, without their ends."""
    connection.rollback()
    for setting, value in session.items():
        connection.execute(
            sa.text("select set_config(:setting, :value, true)"), {"setting": setting, "value": value}
        )
    stored = [{**each, "plan_id": each["plan"], "tenant_id": TENANT, "site_id": SITE} for each in rows]
    columns = [column for column in stored[0] if column != "plan"]
    connection.execute(
        sa.text(
            f"insert into usage.ingest_idempotency ({', '.join(columns)}) values ({', '.join(f':{c}' for c in columns)})"
        ),
        stored,
    )
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    with raw.cursor() as cursor, cursor.copy(canonical.copy_lines(TENANT, SITE, MONTH)) as copy:
        return b"".join(bytes(piece) for piece in copy).split(b"\n")[:-1]


def read(field: bytes) -> str:
    return verify.text_of(field).decode()


def test_copy_writes_the_lines_of_the_rules(ledger: sa.Connection):
    rows = [
        row(number, event_label=text, event_action=text, event_category=None)
        for number, text in enumerate(ODD)
    ]
    assert copied(ledger, rows) == [canonical.line(each) for each in rows]


def test_copy_writes_the_lines_of_the_rules_whatever_the_texts(ledger: sa.Connection):
    chance = random.Random(7)
    alphabet = "ab=+-@;' \t\r\n\\u0\",\x01\x1f\x7f\x85\x9f\xa0\u061c\u200b\u200e\u2028\u202e\u2066\ufeff\uff1d\uff20é\U0001f600"
    texts = ["".join(chance.choices(alphabet, k=chance.randrange(12))) for _ in range(3000)]
    rows = [
        row(n, event_label=text, event_category=texts[-n], billing_reason=chance.choice([text, None]))
        for n, text in enumerate(texts)
    ]
    assert copied(ledger, rows) == [canonical.line(each) for each in rows]


def test_every_escaped_letter_is_the_same_on_both_sides(ledger: sa.Connection):
    letters = [chr(code) for code in (*range(1, 0x3000), *range(0xF000, 0x10000), *range(0x1F600, 0x1F610))]
    rows = [row(n, event_label=f"a{letter}", event_action=f"{letter}a") for n, letter in enumerate(letters)]
    assert copied(ledger, rows) == [canonical.line(each) for each in rows]


def _most_rows(plan: dict[str, Any]) -> int:
    """That any step of a plan gave, in all its turns."""
    own = plan["Actual Rows"] * plan["Actual Loops"]
    return max([own, *(_most_rows(each) for each in plan.get("Plans", []))])


def test_a_text_is_written_anew_in_steps_for_each_letter_there_is_and_not_for_each_time_it_occurs(
    ledger: sa.Connection,
):
    rows = [row(1, event_label="\x7f\x85\\\u2028" * 5000)]
    assert copied(ledger, rows) == [canonical.line(rows[0])]
    select = canonical.copy_lines(TENANT, SITE, MONTH)[len("copy (") :].rpartition(") to")[0]
    raw = ledger.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    ((explained,),) = raw.execute(f"explain (analyze, format json) {select}").fetchall()
    assert 1 <= _most_rows(explained[0]["Plan"]) < 30


def test_rows_come_in_the_order_of_their_keys_as_bytes(ledger: sa.Connection):
    keys = [
        "Z",
        "a",
        "é",
        "a,b",
        "a\n",
        "a!",
        "ab",
        "\U0001f600",
        "\uffff",
        "=a",
        "v2:0",
        "canonical:0",
        "'k",
        "A",
    ]
    written = copied(ledger, [row(n, idempotency_key=key) for n, key in enumerate(keys)])
    found = [read(verify.fields_of(line)[1]) for line in written]
    assert found == sorted(keys, key=str.encode)
    rows = verify.Rows(MONTH)
    rows.feed(b"".join(line + b"\n" for line in written))
    assert (rows.findings, rows.row_count) == ([], len(keys))


def test_a_line_does_not_depend_on_the_session(ledger: sa.Connection):
    rows = [row(3, occurred_at=datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))]
    session = {"timezone": "Asia/Kathmandu", "datestyle": "German", "lc_time": "C", "extra_float_digits": "0"}
    assert copied(ledger, rows, **session) == [canonical.line(rows[0])]


def test_another_site_or_month_is_not_copied(ledger: sa.Connection):
    rows = [row(0), row(1, year_month="2026-02")]
    assert copied(ledger, rows) == [canonical.line(rows[0])]
    statement = canonical.copy_lines(TENANT, UUID(int=1), MONTH)
    raw = ledger.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    with raw.cursor() as cursor, cursor.copy(statement) as copy:
        assert b"".join(bytes(piece) for piece in copy) == b""


def test_what_is_no_site_or_quotes_its_way_out_does_not_reach_the_statement():
    with pytest.raises(ValueError, match="badly formed"):
        canonical.copy_lines(TENANT, "x' or true --", MONTH)  # type: ignore[arg-type]
    assert "= '2026-01'' or true --'" in canonical.copy_lines(TENANT, SITE, "2026-01' or true --")


@given(TEXTS)
def test_a_text_is_read_as_it_was(text: str):
    fields = verify.fields_of(canonical.line(row(1, event_label=text)))
    assert len(fields) == len(verify.COLUMNS)
    assert read(fields[8]) == text


@given(TEXTS)
def test_a_text_stays_on_its_line_and_is_no_formula(text: str):
    written = canonical.guarded(canonical.escaped(text))
    assert written.isprintable() or not set(written) & set("\r\n\t\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    assert len(written.splitlines()) <= 1
    assert all(
        not cell.lstrip(" ").startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20")) for cell in written.split(";")
    )


@given(TEXTS, TEXTS)
def test_an_ordinary_reader_of_csv_finds_the_same_fields(label: str, action: str):
    line = canonical.line(row(1, event_label=label, event_action=action)).decode()
    (found,) = csv.reader(io.StringIO(line, newline=""))
    assert found[7:9] == [canonical.guarded(canonical.escaped(text)) for text in (action, label)]


def test_the_empty_text_is_not_null():
    assert canonical.quoted("") == '""'
    assert canonical.quoted(None) == ""


@pytest.mark.parametrize(
    ("at", "written"),
    [
        (datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC), "2026-01-31T23:59:59.000000Z"),
        (datetime(2026, 2, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2026-01-31T23:00:00.000000Z"),
        (datetime(1, 1, 1, microsecond=1, tzinfo=UTC), "0001-01-01T00:00:00.000001Z"),
    ],
)
def test_an_instant_is_utc_to_the_microsecond(at: datetime, written: str):
    assert canonical.instant(at) == written


def test_an_instant_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="names no zone"):
        canonical.instant(datetime(2026, 1, 1))  # noqa: DTZ001
