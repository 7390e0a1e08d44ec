"""Landing files as the daemon loads them: a refused file is seen by whoever looks at the graph."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest
import sqlalchemy as sa

from dagster_project.defs.warehouse import landing
from kernel import tenancy


def test_a_refused_file_is_named_at_its_asset_and_by_a_check_that_warns(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with engine.begin() as connection:
        tenancy.service(connection)
        tenancy.create(connection, "acme", "Acme", "USD")
    for tenant in ("acme", "nobody"):
        (tmp_path / tenant / "01" / "crm").mkdir(parents=True)
        (tmp_path / tenant / "01" / "crm" / "accounts.csv").write_text("source_key,segment\na1,smb\n")
    monkeypatch.setattr(landing, "engine", lambda: engine)
    monkeypatch.setattr(landing, "settings", lambda: SimpleNamespace(landing_dir=tmp_path))
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([landing.loader()], instance=instance, raise_on_error=False)
    assert result.success
    accounts = next(
        event.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(["spine", "accounts"])
    )
    refused = accounts.metadata["files_refused"].value
    assert "column 'name' is missing" in refused["acme/01/crm/accounts.csv"]
    assert "tenant 'nobody' does not exist" in refused["nobody/01/crm/accounts.csv"]
    (warned,) = (check for check in result.get_asset_check_evaluations() if not check.passed)
    assert (warned.check_name, warned.severity) == ("every_file_is_accepted", dg.AssetCheckSeverity.WARN)
    assert set(warned.metadata["files_refused"].value) == set(refused)
