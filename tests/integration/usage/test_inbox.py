"""Files that arrive in a folder are taken once, and what cannot be taken lies where it can be mended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kernel.errors import RefusedError
from kernel.usage import inbox
from tests.integration.usage.capturing import AT, Shop


def put(root: Path, shop: Shop, name: str = "day.jsonl", lines: int = 3, site: str | None = None) -> Path:
    folder = root / (site or shop.site.public_id)
    folder.mkdir(exist_ok=True)
    file = folder / name
    rows = (json.dumps({"url": f"https://shop.example/{n}", "sid": f"visitor {n}"}) for n in range(lines))
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return file


def take(shop: Shop, file: Path) -> dict[str, int]:
    return dict(inbox.take(shop.engine, file, setting="1", clock=lambda: AT).statuses)


def test_a_file_is_metered_and_put_away(shop: Shop, tmp_path: Path):
    file = put(tmp_path, shop)
    assert inbox.waiting(tmp_path) == [file]
    assert take(shop, file) == {"queued": 3}
    assert inbox.waiting(tmp_path) == []
    assert (file.parent / "taken" / file.name).exists()
    assert shop.billable() == 3


def test_the_same_file_again_is_put_beside_the_first_and_bills_nothing(shop: Shop, tmp_path: Path):
    take(shop, put(tmp_path, shop))
    assert take(shop, put(tmp_path, shop)) == {"duplicate": 3}
    assert sorted(each.name for each in (tmp_path / shop.site.public_id / "taken").iterdir()) == [
        "day-1.jsonl",
        "day.jsonl",
    ]
    assert shop.billable() == 3


def test_bad_lines_are_told_beside_it(shop: Shop, tmp_path: Path):
    file = put(tmp_path, shop)
    file.write_text(file.read_text("utf-8") + "no json\n", encoding="utf-8")
    assert take(shop, file) == {"queued": 3, "invalid": 1}
    told = (file.parent / "taken" / "day.jsonl.lines.csv").read_text("utf-8").splitlines()
    assert told[0] == "line,status,reason"
    assert told[1].startswith("4,invalid,")


def test_a_file_of_nobody_is_refused_with_the_reason_beside_it(shop: Shop, tmp_path: Path):
    file = put(tmp_path, shop, site="nobody")
    with pytest.raises(RefusedError, match="nobody is no site that takes events"):
        take(shop, file)
    why = file.parent / "refused" / "day.jsonl.why.txt"
    assert "name the folder by its public id" in why.read_text("utf-8")
    assert inbox.waiting(tmp_path) == []


def test_a_file_that_is_not_what_its_name_says_is_refused(shop: Shop, tmp_path: Path):
    with pytest.raises(RefusedError):
        take(shop, put(tmp_path, shop, name="day.xlsx"))
    assert shop.billable() == 0


def test_a_file_that_is_still_written_is_left(shop: Shop, tmp_path: Path):
    put(tmp_path, shop, name=".day.jsonl")
    put(tmp_path, shop, name="day.jsonl.part")
    assert inbox.waiting(tmp_path) == []
