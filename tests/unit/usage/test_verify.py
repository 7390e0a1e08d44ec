"""The verifier: an intact pack passes, and whatever was done to it is found, told in a sentence and where."""

from __future__ import annotations

import ast
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.usage import canonical, verify
from tests.unit.usage import packs

KEY = f"v2:{3:064x}"


@pytest.fixture
def pack(tmp_path: Path) -> packs.Pack:
    return packs.write(tmp_path, packs.lines(40), adjustments=[ADJUSTMENT])


ADJUSTMENT: dict[str, Any] = {
    "of_year_month": "2025-12",
    "quantity": -2,
    "units_before": 10,
    "plan": packs.PLAN,
    "told": "double count of a shop",
}


def findings(pack: packs.Pack, **given: Any) -> tuple[str, ...]:
    return verify.verify(pack.file, **given).findings


def reseal(pack: packs.Pack, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a manifest and gives it the digest of what it says now, as whoever made the pack could."""
    fields = json.loads(pack.manifest.read_bytes())
    change(fields)
    fields["digest"] = verify.digest(fields, without="digest")
    pack.manifest.write_bytes(verify.canonical(fields))


def test_an_intact_pack_passes_and_says_what_it_shows(pack: packs.Pack):
    report = verify.verify(pack.file)
    assert report.findings == ()
    assert (
        report.facts[0]
        == "40 rows of 2026-01, 32 billable, 8 of them beyond the limit: what the manifest says."
    )
    assert report.facts[1] == "Rows, plan and adjustments come to 116.50 EUR in 4 lines."
    assert report.facts[2].startswith("Snapshot ")
    assert report.facts[2].endswith("Nothing here is proved before you compare them.")
    invoiced = json.loads(pack.manifest.read_bytes())["snapshot"]["hash"]
    facts = verify.verify(pack.file, snapshot=invoiced).facts
    assert facts[2:] == (f"Snapshot {invoiced}: the one that was invoiced.",)


def test_a_pack_without_rows_passes(tmp_path: Path):
    assert findings(packs.write(tmp_path, [])) == ()


def test_a_pack_of_an_open_month_passes_and_says_so(tmp_path: Path):
    report = verify.verify(packs.write(tmp_path, packs.lines(4), snapshot=None).file)
    assert report.findings == ()
    assert report.facts[2] == "The month was not closed: its counts and adjustments can still change."


# What was done to the file of rows.


def changed(pack: packs.Pack, change: Callable[[list[bytes]], object]) -> tuple[str, ...]:
    lines = pack.file.read_bytes().splitlines(keepends=True)
    change(lines)
    pack.file.write_bytes(b"".join(lines))
    return findings(pack)


def replace(number: int, old: bytes, new: bytes) -> Callable[[list[bytes]], None]:
    def change(lines: list[bytes]) -> None:
        assert old in lines[number - 1]
        lines[number - 1] = lines[number - 1].replace(old, new, 1)

    return change


def test_a_changed_byte_is_told_with_its_line(pack: packs.Pack):
    found = changed(pack, replace(7, b"label 5", b"label 6"))
    assert found[0] == "line 7 of the file: the first place where it is not what the manifest was made of"
    assert found[1].startswith("merkle_root of the manifest is not that of the file: ")


def test_a_row_made_unbillable_changes_the_invoice(pack: packs.Pack):
    found = changed(pack, replace(4, b",true,", b",false,"))
    assert "event_count of the manifest is not that of the file: 32 there, 31 here" in found
    assert "invoice line 3: amount is 72.50, rows and plan come to 70.00" in found


def test_a_missing_row_is_told_with_its_line(pack: packs.Pack):
    found = changed(pack, lambda lines: lines.pop(19))
    assert found[0].startswith("line 20 of the file")
    assert "row_count of the manifest is not that of the file: 40 there, 39 here" in found


def test_a_missing_last_row_is_told_with_its_line(pack: packs.Pack):
    assert changed(pack, lambda lines: lines.pop())[0].startswith("line 41 of the file")


def test_an_added_row_is_told_with_its_line(pack: packs.Pack):
    line = canonical.line(packs.row(19, idempotency_key=f"v2:{18:064x}0")) + b"\n"
    found = changed(pack, lambda lines: lines.insert(20, line))
    assert found[0].startswith("line 21 of the file")
    assert "row_count of the manifest is not that of the file: 40 there, 41 here" in found


def test_a_repeated_row_is_told_with_its_line(pack: packs.Pack):
    found = changed(pack, lambda lines: lines.insert(20, lines[19]))
    assert found[0] == "line 21 repeats the key of the line before it: a key is billed once"


def test_rows_in_another_order_are_told_with_their_line(pack: packs.Pack):
    found = changed(pack, lambda lines: lines.append(lines.pop(1)))
    assert found[0] == "line 41 stands below a line with a later key: rows are in the order of their keys"
    assert found[1].startswith("line 2 of the file")


@pytest.mark.parametrize("size", [0, 1, 50, 148, 149, 150, 2000, -200, -1])
def test_a_file_that_was_cut_off_is_found(pack: packs.Pack, size: int):
    whole = pack.file.read_bytes()
    pack.file.write_bytes(whole[:size])
    assert findings(pack)


def test_a_cut_line_is_told(pack: packs.Pack):
    pack.file.write_bytes(pack.file.read_bytes()[:-1])
    assert findings(pack)[0] == "line 41 has no line end: the file was cut off, or something was appended"


@pytest.mark.parametrize(
    "more", [b"\n", b" ", b"\0", b"x\n", b"# note\n", b"\x1a", canonical.line(packs.row(41)) + b"\n"]
)
def test_what_was_appended_is_found(pack: packs.Pack, more: bytes):
    pack.file.write_bytes(pack.file.read_bytes() + more)
    assert "42" in findings(pack)[0]


def test_a_conversion_to_crlf_is_told(pack: packs.Pack):
    pack.file.write_bytes(pack.file.read_bytes().replace(b"\n", b"\r\n"))
    found = findings(pack)
    assert found[0] == "line 1 ends in CR and LF: the file was converted, lines end in LF alone"
    assert found[1] == "line 2 ends in CR and LF: the file was converted, lines end in LF alone"


def test_a_changed_header_is_told(pack: packs.Pack):
    assert (
        changed(pack, replace(1, b"billable", b"Billable"))[0] == "line 1 is not the header of a dispute file"
    )


def test_a_byte_order_mark_is_told(pack: packs.Pack):
    pack.file.write_bytes(b"\xef\xbb\xbf" + pack.file.read_bytes())
    assert findings(pack)[0] == "line 1 begins with a byte order mark: the file was saved by another program"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"2026-01-", b"2026-02-", "is of another month than 2026-01"),
        (b",2026-01\n", b",2026-02\n", "is of another month than 2026-01"),
        (b",true,", b",yes,", "has an outcome that is none"),
        (b",ACCEPTED,", b",REJECTED_QUOTA,", "has an outcome that is none"),
        (b",ACCEPTED,", b",DUPLICATE,", "has an outcome that is none"),
        (b",interaction,", b",inter,action,", "has 13 fields in place of 12"),
        (b",interaction,", b',"interaction,', "has 0 fields in place of 12"),
    ],
)
def test_a_row_that_cannot_be_is_told_with_its_line(tmp_path: Path, old: bytes, new: bytes, told: str):
    lines = packs.lines(12)
    pack = packs.write(tmp_path, lines)
    assert changed(pack, replace(7, old, new))[0] == f"line 7 {told}"


def test_a_line_that_never_ends_is_told_without_being_read_whole(pack: packs.Pack):
    pack.file.write_bytes(pack.file.read_bytes() + b"x" * 17_000_000)
    assert findings(pack) == ("line 42 has no end within 16,777,216 bytes: it is no row",)


@pytest.mark.parametrize("number", [2, 3000, 12_001])
def test_in_a_long_file_the_range_of_lines_is_told(tmp_path: Path, number: int):
    pack = packs.write(tmp_path, packs.lines(12_000))
    assert findings(pack) == ()
    first = (number - 2) // 16 * 16 + 2
    found = changed(pack, replace(number, b"default_billable", b"Default_billable"))
    assert found[0].startswith(f"lines {first:,} to {first + 15:,} of the file")


# What was done to the manifest.


@pytest.mark.parametrize(
    "change",
    [
        lambda written: written[:-1],
        lambda written: written + b"\n",
        lambda written: written.replace(b",", b", ", 1),
        lambda written: b"\xef\xbb\xbf" + written,
        lambda written: written.replace(b"\n", b"\r\n"),
        lambda written: written.replace(b'"adjustments":', b'"adjustments":[],"adjustments":', 1),
        lambda written: written.replace(b'"row_count":40', b'"row_count":40.0', 1),
        lambda written: written.replace(b'"row_count":40', b'"row_count":4e1', 1),
        lambda written: written.replace(b'"row_count":40', b'"row_count":NaN', 1),
        lambda written: written.replace(b'"row_count":40', b'"row_count":' + b"4" * 5000, 1),
        lambda written: written.replace(b"EUR", b"\\u0045UR", 1),
        lambda written: written.replace(b"EUR", b"\\ud800", 1),
        lambda _: b"[" * 100_000,
        lambda _: b"",
        lambda _: b"\xff\xfe",
        lambda _: b"[]\n",
    ],
)
def test_a_manifest_in_another_form_is_found(pack: packs.Pack, change: Callable[[bytes], bytes]):
    before = pack.manifest.read_bytes()
    pack.manifest.write_bytes(change(before))
    assert pack.manifest.read_bytes() != before
    assert findings(pack)[0].startswith("the manifest was changed: ")


def test_a_manifest_of_another_pack_is_found(pack: packs.Pack, tmp_path: Path):
    (tmp_path / "other").mkdir()
    pack.manifest.write_bytes(packs.write(tmp_path / "other", packs.lines(39)).manifest.read_bytes())
    assert findings(pack)[0].startswith("line 41 of the file")


RESEALED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "format": (lambda m: m.update(format="usage-dispute/2"), "manifest.format is not what"),
    "field more": (lambda m: m.update(note=""), "manifest.note is not what"),
    "field less": (lambda m: m.pop("code_version"), "manifest.code_version is not what"),
    "site": (lambda m: m.update(site_id=str(packs.TENANT)), "site_id of the snapshot is not that of the manifest"),
    "month": (lambda m: m.update(year_month="2026-02"), "line 2 is of another month than 2026-02"),
    "columns": (lambda m: m["columns"].reverse(), "columns of the manifest is not that of the file"),
    "rows": (lambda m: m.update(row_count=41), "row_count of the manifest is not that of the file: 41 there, 40 here"),
    "billable": (lambda m: m.update(event_count=33), "event_count of the manifest is not that of the file: 33 there, 32 here"),
    "overage": (lambda m: m.update(overage_count=7), "overage_count of the manifest is not that of the file: 7 there, 8 here"),
    "sha256": (lambda m: m.update(sha256="0" * 64), "sha256 of the manifest is not that of the file"),
    "root": (lambda m: m.update(merkle_root="0" * 64), "merkle_root of the manifest is not that of the file"),
    "range": (lambda m: m["ranges"].pop(), "line 41 of the file"),
    "range lines": (lambda m: m.update(range_lines=2), "range_lines of the manifest is not that of the file: 2 there, 1 here"),
    "limit": (lambda m: m["plan"].update(monthly_limit=2), "plan of the snapshot is not that of the manifest"),
    "price": (lambda m: m["plan"].update(base_price="1"), "invoice line 1: amount is 49.00, rows and plan come to 1.00"),
    "text": (lambda m: m["invoice"]["lines"][0].update(told="anything"), "invoice line 1: told is anything, rows and plan come to base price"),
    "version": (lambda m: m.update(code_version="9"), "code_version of the snapshot is not that of the manifest"),
    "made at": (lambda m: m.update(generated_at="2026-02-01T06:00:00.000001Z"), "generated_at of the snapshot is not that"),
    "amount": (lambda m: m["invoice"]["lines"][2].update(amount="72.51"), "invoice line 3: amount is 72.51, rows and plan come to 72.50"),
    "line more": (lambda m: m["invoice"]["lines"].append(m["invoice"]["lines"][0]), "invoice line 5 is one too many"),
    "line less": (lambda m: m["invoice"]["lines"].pop(), "invoice line 4 is missing"),
    "total": (lambda m: m["invoice"].update(total="111.51"), "total of the invoice is 111.51, rows and plan come to 116.50"),
    "currency": (lambda m: m["invoice"].update(currency="USD"), "currency of the invoice is USD, rows and plan come to EUR"),
    "adjustment": (lambda m: m["adjustments"][0].update(quantity=-3), "invoice line 4: quantity is -2, rows and plan come to -3"),
    "negative": (lambda m: m["adjustments"][0].update(quantity=-11), "an adjustment of 2025-12 would leave -1 events"),
    "frozen hash": (lambda m: m["snapshot"].update(snapshot_hash="0" * 64), "snapshot_hash is not that of site, month and counts"),
    "previous": (lambda m: m["snapshot"].update(previous_hash="1" * 64), "the hash of the snapshot is not that of its fields"),
    "hash": (lambda m: m["snapshot"].update(hash="0" * 64), "the hash of the snapshot is not that of its fields"),
    "frozen count": (lambda m: m["snapshot"].update(event_count=31), "event_count of the snapshot is not that of the manifest"),
}  # fmt: skip


@pytest.mark.parametrize("name", RESEALED)
def test_a_manifest_that_was_changed_and_sealed_again_is_found(pack: packs.Pack, name: str):
    change, told = RESEALED[name]
    reseal(pack, change)
    assert any(each.startswith(told) for each in findings(pack)), findings(pack)


def test_a_pack_that_was_made_anew_whole_is_not_the_one_on_the_invoice(tmp_path: Path):
    invoiced = json.loads(packs.write(tmp_path, packs.lines(40)).manifest.read_bytes())["snapshot"]["hash"]
    forged = packs.write(tmp_path, packs.lines(41))
    assert findings(forged) == ()
    (told,) = findings(forged, snapshot=invoiced)
    assert told.endswith("not the one that was invoiced")
    assert findings(packs.write(tmp_path, packs.lines(40)), snapshot=invoiced) == ()


def forged(pack: packs.Pack, *, told: str | None = None, adjustments: list[Any]) -> None:
    """Other adjustments, and an invoice that follows from them."""

    def change(fields: dict[str, Any]) -> None:
        fields["adjustments"] = adjustments
        fields["invoice"] = verify.invoice_of(
            fields["plan"], fields["event_count"], fields["year_month"], adjustments
        )
        if told is not None:
            fields["invoice"]["lines"][0]["told"] = told

    reseal(pack, change)


@pytest.mark.parametrize(
    "adjustments",
    [[], [ADJUSTMENT, {**ADJUSTMENT, "quantity": 7}], [{**ADJUSTMENT, "told": "something else"}],
     [{**ADJUSTMENT, "units_before": 11}]],
)  # fmt: skip
def test_adjustments_that_the_closed_month_does_not_pay_for_are_found(
    pack: packs.Pack, adjustments: list[Any]
):
    invoiced = json.loads(pack.manifest.read_bytes())["snapshot"]["hash"]
    forged(pack, adjustments=adjustments)
    for snapshot in (invoiced, None):
        (told,) = findings(pack, snapshot=snapshot)
        assert told.startswith("the adjustments are not those of the snapshot")


def test_adjustments_bound_by_a_snapshot_made_anew_are_not_those_that_were_invoiced(pack: packs.Pack):
    invoiced = json.loads(pack.manifest.read_bytes())["snapshot"]["hash"]
    forged(pack, adjustments=[])

    def rebound(fields: dict[str, Any]) -> None:
        fields["snapshot"]["adjustments_hash"] = verify.adjustments_hash([])
        fields["snapshot"]["hash"] = verify.digest(fields["snapshot"], without="hash")

    reseal(pack, rebound)
    assert findings(pack) == ()
    assert findings(pack, snapshot=invoiced)[0].endswith("not the one that was invoiced")


def test_a_pack_whose_snapshot_binds_no_adjustments_passes_and_says_so(tmp_path: Path):
    lines = packs.lines(40)
    first = packs.frozen(packs.rows_of(lines))
    del first["adjustments_hash"]
    first["hash"] = verify.digest(first, without="hash")
    pack = packs.write(tmp_path, lines, snapshot=first, adjustments=[ADJUSTMENT])
    report = verify.verify(pack.file, snapshot=first["hash"])
    assert report.findings == ()
    assert "are not bound by this snapshot" in report.facts[2]


def test_a_pack_of_an_open_month_is_not_what_was_invoiced(tmp_path: Path):
    (told,) = findings(packs.write(tmp_path, packs.lines(4), snapshot=None), snapshot="0" * 64)
    assert told.startswith("the month was not closed")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
def test_no_manifest_makes_the_verifier_fail(pack: packs.Pack, data: st.DataObject):
    intact = pack.manifest.read_bytes()
    anything = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.text()
        | st.just([])
        | st.just({})
        | st.just([None])
        | st.floats()
    )

    def change(fields: Any) -> None:
        here = fields
        while True:
            name = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
            if not isinstance(here[name], dict | list) or not here[name] or data.draw(st.booleans()):
                break
            here = here[name]
        here[name] = data.draw(anything)

    reseal(pack, change)
    verify.verify(pack.file)
    pack.manifest.write_bytes(intact)


def _one_byte_changes(pack: packs.Pack, count: int, seed: int) -> int:
    """How many of so many changes of one byte in either file were found."""
    chance, found = random.Random(seed), 0
    for _ in range(count):
        file = chance.choice([pack.file, pack.manifest])
        intact = file.read_bytes()
        changed = bytearray(intact)
        at = chance.randrange(len(changed))
        kind = chance.randrange(4)
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at] = (changed[at] + chance.randrange(1, 256)) % 256
        elif kind == 2:
            del changed[at]
        else:
            changed.insert(at, chance.randrange(256))
        file.write_bytes(changed)
        found += bool(findings(pack))
        file.write_bytes(intact)
    return found


def test_every_changed_byte_is_found(pack: packs.Pack):
    assert _one_byte_changes(pack, 500, seed=1) == 500


@pytest.mark.slow
def test_every_one_of_ten_thousand_changed_bytes_is_found(pack: packs.Pack):
    assert _one_byte_changes(pack, 10_000, seed=2) == 10_000


# One event.


def test_the_inclusion_of_one_event_is_proved_with_its_path(pack: packs.Pack):
    facts = verify.verify(pack.file, event=KEY).facts
    line = next(each for each in facts if each.startswith("Line 5: "))
    path = [each.split() for each in facts if each.startswith(("left", "right"))]
    at = verify.leaf(line.removeprefix("Line 5: ").encode())
    for side, beside in path:
        at = (
            verify.node(bytes.fromhex(beside), at)
            if side == "left"
            else verify.node(at, bytes.fromhex(beside))
        )
    root = json.loads(pack.manifest.read_bytes())["merkle_root"]
    assert at.hex() == root
    assert facts[-1] == f"root  {root}: the event is one of the 40 rows."


def test_every_event_is_proved_wherever_a_piece_of_the_file_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(verify, "_PIECE_BYTES", 1009)
    pack = packs.write(tmp_path, packs.lines(21))
    root = json.loads(pack.manifest.read_bytes())["merkle_root"]
    for number in range(21):
        assert verify.verify(pack.file, event=f"v2:{number:064x}").facts[-1].startswith(f"root  {root}")


def test_an_event_with_an_odd_key_is_found_by_its_text(tmp_path: Path):
    odd = ["'", "=1,2", 'a"b', "a\nb", "é", "\U0001f600"]
    lines = [
        canonical.line(packs.row(n, idempotency_key=key)) for n, key in enumerate(sorted(odd, key=str.encode))
    ]
    pack = packs.write(tmp_path, lines)
    assert all(findings(pack, event=key) == () for key in odd)


def test_an_event_that_is_not_there_is_told(pack: packs.Pack):
    assert findings(pack, event="v2:none") == ("no row has the key v2:none",)


# Alone, on another machine.


def alone(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    copied = folder / "verify.py"
    copied.write_bytes(Path(verify.__file__).read_bytes())
    return subprocess.run(
        [sys.executable, "-I", "-S", copied, *arguments], capture_output=True, text=True, cwd="/", env={"LC_ALL": "C"}, check=False
    )  # fmt: skip


def test_the_file_runs_alone(pack: packs.Pack, tmp_path: Path):
    done = alone(tmp_path, pack.file, "--event", KEY)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith("40 rows of 2026-01")
    pack.file.write_bytes(pack.file.read_bytes()[:-1])
    done = alone(tmp_path, pack.file)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith("line 41 has no line end")


def test_a_file_that_is_not_there_is_told_in_a_sentence(tmp_path: Path):
    done = alone(tmp_path, tmp_path / "dispute.csv")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.strip().endswith("dispute.manifest.json: No such file or directory")


def test_nothing_but_the_standard_library_is_imported():
    tree = ast.parse(Path(verify.__file__).read_text(encoding="utf-8"), feature_version=(3, 10))
    modules = {alias.name for each in ast.walk(tree) if isinstance(each, ast.Import) for alias in each.names}
    modules |= {each.module or "" for each in ast.walk(tree) if isinstance(each, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names
