"""What is kept of a workload of hours that does not come to its end."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest

from bench import books, books_data, books_peer
from tests.unit.books.bank_lines import lines


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_predictions_are_kept_though_the_peer_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    june = lines(("2024-06-02", "esso aston", "1111", "fuel")).assign(period=pd.Timestamp("2024-06-01"))
    made = books.Replay(pd.DataFrame({"txn": ["a"]}), pd.DataFrame({"lines": [1]}))
    monkeypatch.setattr(books_data, "birmingham", lambda _: (june, None))
    monkeypatch.setattr(books, "database", lambda: nullcontext((None, tmp_path)))
    monkeypatch.setattr(books, "city", lambda *_, **__: None)
    monkeypatch.setattr(books, "replay", lambda *_: made)
    monkeypatch.setattr(books_peer, "replay", _interrupted)
    with pytest.raises(KeyboardInterrupt):
        books.run(
            tmp_path, "2024-06", "2024-06", "2024-06", tmp_path / "kept",
            started=lambda _: None, done=lambda _: None,
        )  # fmt: skip
    assert list(pd.read_parquet(tmp_path / "kept" / "predictions.parquet")["txn"]) == ["a"]
