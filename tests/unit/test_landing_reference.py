"""The page people read is the contract the loader keeps."""

from __future__ import annotations

from kernel.landing import reference


def test_the_reference_page_is_current() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), (
        "run python -m kernel.landing.reference"
    )
