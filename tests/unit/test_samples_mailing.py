"""The part of a sample company that a mailing goes to, and who of it agreed. No database."""

from __future__ import annotations

from samples import mailing

PEOPLE = {("lead", "champion"): 30, ("lead", "blocker"): 25, ("mql", "champion"): 12, ("mql", "blocker"): 8}


def test_the_smallest_part_with_enough_people_is_taken():
    assert mailing.part(PEOPLE, 40) == (["lead", "mql"], ["champion"])
    assert mailing.part(PEOPLE, 33) == (["lead", "mql"], ["blocker"])
    assert mailing.part(PEOPLE, 9) == (["mql"], ["champion"])


def test_a_company_with_too_few_people_is_taken_whole():
    assert mailing.part(PEOPLE, 500) == (["lead", "mql"], ["blocker", "champion"])


def test_so_many_agreed_and_stayed_and_the_others_left_or_were_never_asked():
    addresses = [f"p{number:03}@mail.example" for number in range(525)]
    who = mailing.consents(addresses, 500)
    assert len(set(who.agreed) - set(who.left)) == 500
    assert len(who.left) == 6
    assert set(who.left) <= set(who.agreed) < set(addresses)
    assert who == mailing.consents(addresses, 500)


def test_fewer_addresses_than_wanted_still_leave_somebody_out():
    who = mailing.consents([f"p{number}@mail.example" for number in range(120)], 500)
    assert len(who.left) == 1
    assert len(set(who.agreed)) == 118
