"""`tenant config`: which values nobody set, and what a change of them does to the past."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.usefixtures("tenant")
WHO = ("--author", "ann", "--reason", "board")


def test_a_target_that_nobody_set_is_shown_as_a_default(command) -> None:
    command("config", "acme", "--set", "target_bookings=80000", *WHO)
    shown = {
        line.split()[0]: line.split()[-1]
        for line in command("config", "acme").text.splitlines()
        if line.split()
    }
    assert (shown["target_bookings"], shown["target_pipeline"]) == ("set", "default")
    assert command("config", "acme", "--json").json["target_bookings"] == "80000"


def test_a_change_that_counts_for_the_past_is_told(command) -> None:
    assert "Warning" not in command("config", "acme", "--set", "target_bookings=80000", *WHO).text
    told = command("config", "acme", "--set", "reporting_currency=EUR", *WHO).text
    assert "reporting_currency counts for the past too, and amounts of every day are converted anew" in told
