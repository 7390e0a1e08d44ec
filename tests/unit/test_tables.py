"""Tables at the terminal: what may not be cut is whole, however narrow it is."""

from __future__ import annotations

import pytest

from dagster_project.cli import ui

HASH = "8a8b5d3351ba2c754a83e78d8fae6dd52d0f6a499ebbd7dc27ab8551d7920c3b"


@pytest.mark.parametrize("columns", ["80", "40"])
@pytest.mark.parametrize("whole", ["-1,234,567.8901 USD", "2026-11-21 22:24:07+00:00", HASH])
def test_money_instants_and_hashes_are_whole_in_any_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str, whole: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    row = {f"number_{name}": "some longer words" for name in range(9)}
    ui.emit([row | {"of": whole}], as_json=False)
    assert whole in capsys.readouterr().out
