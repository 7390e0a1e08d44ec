"""An address is told to people without what opens the door."""

from __future__ import annotations

import pytest

from models import address


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:S3cret@db:5432/revenue",
        "postgresql://ann@db:5432/revenue?password=S3cret",
        "postgresql://ann@db:5432/revenue?sslpassword=S3cret&passfile=S3cret",
    ],
)
def test_an_address_is_shown_without_its_password(url: str) -> None:
    told = address.shown(address.normalise(url))
    assert "S3cret" not in told
    assert "db:5432/revenue" in told


def test_a_database_that_cannot_be_reached_is_told_without_its_password() -> None:
    with (
        pytest.raises(address.DatabaseError) as refused,
        address.connected("postgresql+psycopg://ann@127.0.0.1:1/revenue?password=S3cret"),
    ):
        pass
    assert "cannot be reached" in str(refused.value)
    assert "S3cret" not in str(refused.value)


def test_a_url_that_names_no_database_is_told_without_its_password() -> None:
    with pytest.raises(address.DatabaseError) as refused:
        address.normalise("postgresql://ann@db/?password=S3cret")
    assert "S3cret" not in str(refused.value)
