"""The page people read is the contract the loader keeps."""

from __future__ import annotations

import pytest

from kernel.errors import RefusedError
from kernel.landing import mapping, reference


def test_the_reference_page_is_current() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), (
        "run python -m kernel.landing.reference"
    )


@pytest.mark.parametrize("name", mapping.shipped())
def test_every_shipped_mapping_can_be_read_and_says_what_it_is(name: str) -> None:
    assert mapping.load_mapping(name).description


def test_an_unknown_mapping_names_the_nearest() -> None:
    with pytest.raises(RefusedError, match="did you mean hubspot"):
        mapping.load_mapping("hubsport")
