"""The weekly digest: whom it speaks of, what it says of them, and that no name can say more than a name."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from kernel import tenancy
from kernel.decisions import digest, digest_pages
from kernel.errors import RefusedError
from models.actions import user_tenants
from models.decisions import optimization_action_results, optimization_cycles
from models.spine import tenants
from tests.fakes import approved
from tests.fakes.measured import write

MONDAY = date(2026, 5, 4)
SUNDAY = date(2026, 5, 10)
IN_WEEK = datetime(2026, 5, 6, 12, tzinfo=UTC)
USUAL = {
    "payback_months": 12, "cac_blended": 2400, "gross_margin_pct": 62.5, "contribution_margin_pct": 40,
    "revenue_per_fte": 20_000, "sales_efficiency_ratio": 0.8, "arr_total": 1_000_000,
}  # fmt: skip


def tenant(engine: sa.Engine, slug: str, *, name: str = "", currency: str = "USD", **flags: Any) -> UUID:
    """A switched-on tenant with 14 days of the usual metrics up to the Sunday; `metrics` change some, None all."""
    metrics = flags.pop("metrics", {})
    metrics = {} if metrics is None else USUAL | metrics
    flags = {"revenue_os_enabled": True, "cfo_expansion_enabled": True} | flags
    with engine.begin() as connection:
        tenancy.service(connection)
        tenant_id = tenancy.create(connection, slug, name or slug.title(), currency, **flags)
    for metric_id, value in metrics.items():
        write(engine, tenant_id, metric_id, SUNDAY - timedelta(days=13), [value] * 14)
    return tenant_id


def closed(
    engine: sa.Engine, tenant_id: UUID, economics: str, *, at: datetime = IN_WEEK, **columns: Any
) -> None:
    given = {"execution_status": "closed", "outcome": "improved", "closed_at": at}
    action = approved.action(target_metric="opps_created", action_id=f"act-{uuid4().hex[:6]}")
    (action_id,) = approved.approve(engine, tenant_id, action, **given | {"hypothesis": "it helps"} | columns)
    with engine.begin() as connection:
        tenancy.service(connection, tenant_id)
        connection.execute(
            optimization_action_results.insert().values(
                tenant_id=tenant_id,
                optimization_action_id=action_id,
                metric_id="opps_created",
                baseline_value=10,
                observed_value=14,
                observation_end_date=MONDAY,
                confidence=1,
                metadata={"economics": {"outcome": economics}},
            )
        )


def member(engine: sa.Engine, tenant_id: UUID, name: str = "Ada") -> UUID:
    user = uuid4()
    with engine.begin() as connection:
        tenancy.service(connection)
        connection.execute(
            user_tenants.insert().values(tenant_id=tenant_id, user_id=user, name=name, role="approver")
        )
    return user


def build(engine: sa.Engine, *, platform: bool = True, **more: Any) -> digest.Digest:
    with engine.begin() as connection:
        tenancy.service(connection)
        return digest.build(connection, more.pop("week", IN_WEEK.date()), platform=platform, **more)


def line(of: digest.TenantDigest, metric_id: str) -> digest.MetricLine:
    return next(found for found in of.metrics if found.metric_id == metric_id)


def test_a_week_runs_from_monday_to_sunday_whatever_day_names_it(world: sa.Engine) -> None:
    for day in (MONDAY, SUNDAY):
        found = build(world, week=day)
        assert (found.week, found.first, found.last) == ("2026-W19", MONDAY, SUNDAY)
    assert build(world, week=date(2027, 1, 1)).week == "2026-W53"


def test_only_active_tenants_that_are_switched_on_are_spoken_of(world: sa.Engine) -> None:
    tenant(world, "real")
    tenant(world, "off", revenue_os_enabled=False)
    tenant(world, "test", status="test")
    tenant(world, "suspended", status="suspended")
    assert [found.slug for found in build(world).tenants] == ["real"]


def test_changes_are_told_against_last_week_and_against_the_time_before(world: sa.Engine) -> None:
    """Before the switch a CAC of 3000 on average, last week 2500, now 2400."""
    tenant_id = tenant(world, "t", revenue_os_activated_at=datetime(2026, 3, 1, tzinfo=UTC))
    write(world, tenant_id, "cac_blended", date(2026, 2, 15), [2900, 3100] * 7 + [1] * 5)
    write(world, tenant_id, "cac_blended", MONDAY - timedelta(days=1), [2500])
    found = line(build(world).tenants[0], "cac_blended")
    assert (found.value, found.week_change, found.baseline_change) == (2400, -100, -600)
    assert (found.date, found.stale) == (SUNDAY, "")


def test_an_old_value_is_shown_with_its_date_and_without_a_change(world: sa.Engine) -> None:
    tenant_id = tenant(world, "t")
    write(world, tenant_id, "cac_blended", MONDAY, ["stale_source"] * 7)
    found = line(build(world).tenants[0], "cac_blended")
    assert (found.value, found.date, found.week_change) == (2400, MONDAY - timedelta(days=1), None)
    assert found.stale == "as of 2026-05-03"
    assert "STALE: as of 2026-05-03" in digest_pages.render_text(build(world))


def test_a_value_that_went_missing_within_the_week_is_marked(world: sa.Engine) -> None:
    tenant_id = tenant(world, "t")
    write(world, tenant_id, "cac_blended", SUNDAY, [None])
    assert line(build(world).tenants[0], "cac_blended").stale == "as of 2026-05-09, since then undefined"


def test_a_metric_without_any_value_says_why(world: sa.Engine) -> None:
    tenant_id = tenant(world, "t")
    write(world, tenant_id, "payback_months", SUNDAY - timedelta(days=13), ["infinite"] * 14)
    found = line(build(world).tenants[0], "payback_months")
    assert (found.value, found.stale) == (None, "infinite")


def test_a_value_of_more_than_ninety_days_ago_tells_its_day(world: sa.Engine) -> None:
    tenant(world, "t")
    found = build(world, week=SUNDAY + timedelta(days=100))
    told = line(found.tenants[0], "cac_blended")
    assert (told.value, told.stale) == (None, "last known on 2026-05-10")
    text = digest_pages.render_text(found)
    assert "CAC: – (no value: last known on 2026-05-10)" in text
    assert "STALE" not in text


def test_a_metric_that_is_computed_no_more_tells_since_when(world: sa.Engine) -> None:
    tenant_id = tenant(world, "t")
    write(world, tenant_id, "payback_months", SUNDAY - timedelta(days=13), ["infinite"] * 14)
    (found,) = build(world, week=SUNDAY + timedelta(days=7)).tenants
    assert line(found, "payback_months").stale == "infinite on 2026-05-10"
    assert line(found, "cac_blended").stale == "as of 2026-05-10"


def test_the_time_before_the_switch_is_told_only_when_it_was_turned_by_then(world: sa.Engine) -> None:
    later = datetime(2026, 5, 11, tzinfo=UTC)
    for slug, at in (("before", later - timedelta(seconds=1)), ("after", later), ("unknown", None)):
        tenant(world, slug, name=slug, revenue_os_activated_at=at)
    found = build(world)
    told = {
        each.slug: (each.switched_on, line(each, "cac_blended").baseline_change) for each in found.tenants
    }
    assert told == {"before": (SUNDAY, Decimal(0)), "after": (None, None), "unknown": (None, None)}
    for render in (digest_pages.render_text, digest_pages.render_html):
        assert render(found).lower().count("since switched on") == (
            6 if render is digest_pages.render_text else 1
        )


def test_currencies_of_which_nothing_is_known_are_one_line(world: sa.Engine) -> None:
    for currency in ("EUR", "GBP", "USD"):
        tenant(world, currency.lower(), currency=currency, metrics={} if currency == "USD" else None)
    found = build(world)
    text = digest_pages.render_text(found)
    assert "Portfolio: nothing is known of the week for tenants in EUR, GBP." in text
    assert text.count("n = 0") == 0
    assert "nothing is known of the week for tenants in EUR, GBP." in digest_pages.render_html(found)


def test_a_change_that_rounds_to_nothing_has_no_sign_of_loss(world: sa.Engine) -> None:
    tenant_id = tenant(world, "t")
    write(world, tenant_id, "gross_margin_pct", SUNDAY, ["62.49"])
    assert "Gross margin: 62.5 %; +0.0 points in the week" in digest_pages.render_text(build(world))


def test_every_closed_action_counts_by_its_economics_whatever_its_target(world: sa.Engine) -> None:
    tenant_id = tenant(world, "t")
    for economics in ("improved", "hurt", "hurt", "neutral", "inconclusive"):
        closed(world, tenant_id, economics)
    closed(world, tenant_id, "improved", at=datetime(2026, 5, 3, 23, 59, tzinfo=UTC))
    closed(world, tenant_id, "improved", at=datetime(2026, 5, 11, tzinfo=UTC))
    closed(world, tenant_id, "improved", execution_status="reverted")
    (found,) = build(world).tenants
    assert found.verdicts == {"improved": 1, "hurt": 2, "neutral": 1, "inconclusive": 1}
    assert found.reverted == 1
    assert len(found.actions) == 6
    assert "More actions hurt the economics than improved them." in digest_pages.render_text(build(world))


def test_an_action_is_told_with_before_and_after_and_who_approved_it(world: sa.Engine) -> None:
    tenant_id = tenant(world, "t")
    closed(world, tenant_id, "improved", acknowledged_by=member(world, tenant_id, "Ada Lovelace"))
    closed(world, tenant_id, "improved")
    (found,) = build(world).tenants
    assert {told.approved_by for told in found.actions} == {"Ada Lovelace", "no approval needed"}
    assert (found.actions[0].before, found.actions[0].after) == (10, 14)
    assert "opps_created 10.00 → 14.00; target improved, economics improved; approved by Ada Lovelace" in (
        digest_pages.render_text(build(world))
    )


def test_gates_are_counted_by_the_cycles_they_were_triggered_in(world: sa.Engine) -> None:
    tenant_id = tenant(world, "t")
    for ago, gates in (
        (0, ["payback_exceeded"]),
        (1, ["payback_exceeded", "cash_constrained"]),
        (2, []),
        (9, ["x"]),
    ):
        with world.begin() as connection:
            tenancy.service(connection, tenant_id)
            connection.execute(
                optimization_cycles.insert().values(
                    tenant_id=tenant_id, invoked_at=IN_WEEK - timedelta(days=ago), cfo_gates_active=gates
                )
            )
    assert build(world).tenants[0].gates == {"payback_exceeded": 2, "cash_constrained": 1}


def test_the_portfolio_is_the_median_and_the_mean_weighted_by_arr_with_how_many(world: sa.Engine) -> None:
    """Paybacks 10, 20 and 60 with ARR 1, 1 and 2 million: the median is 20, the weighted mean 150 / 4 = 37.5."""
    for slug, payback, arr in (("a", 10, 1_000_000), ("b", 20, 1_000_000), ("c", 60, 2_000_000)):
        tenant(world, slug, metrics={"payback_months": payback, "arr_total": arr})
    without = tenant(world, "d", metrics={"arr_total": 0})
    write(world, without, "payback_months", SUNDAY - timedelta(days=13), [None] * 14)
    tenant(world, "e", currency="EUR", metrics={"payback_months": 99})
    portfolio = build(world).portfolio
    assert portfolio is not None
    lines = {(found.currency, found.metric_id): found for found in portfolio}
    payback = lines["USD", "payback_months"]
    assert (payback.median, payback.n) == (20, 3)
    assert (payback.weighted_mean, payback.weighted_n) == (Decimal("37.5"), 3)
    assert lines["USD", "cac_blended"].n == 4
    assert lines["USD", "cac_blended"].weighted_n == 3
    assert (lines["EUR", "payback_months"].median, lines["EUR", "payback_months"].n) == (99, 1)


def test_a_user_sees_the_own_tenants_and_no_portfolio(world: sa.Engine) -> None:
    mine = tenant(world, "mine")
    other = tenant(world, "other")
    user = member(world, mine)
    found = build(world, platform=False, user_id=user)
    assert [told.slug for told in found.tenants] == ["mine"]
    assert found.portfolio is None
    assert "Portfolio" not in digest_pages.render_html(found)
    with pytest.raises(RefusedError, match=str(other)):
        build(world, platform=False, user_id=user, tenant_ids=[mine, other])
    with pytest.raises(RefusedError, match="name the user"):
        build(world, platform=False)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def test_a_tenant_named_script_is_a_name_and_no_script(world: sa.Engine, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\nPortfolio, all: fine & {dandy}"
    tenant_id = tenant(world, "evil")
    with world.begin() as connection:  # nobody can be created with such a name now
        connection.execute(sa.update(tenants).where(tenants.c.id == tenant_id).values(name=evil))
    closed(
        world, tenant_id, "improved", hypothesis='<img src="x" onerror="y">',
        acknowledged_by=member(world, tenant_id, "<b>Bob</b>"),
    )  # fmt: skip
    page, text, *_ = digest_pages.write_files(build(world), tmp_path / "out")
    parser = _Tags()
    parser.feed(page.read_text(encoding="utf-8"))
    assert not {"script", "img", "b", "link", "iframe"} & set(parser.tags)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.read_text(encoding="utf-8")
    assert "\nPortfolio, all" not in text.read_text(encoding="utf-8")
    assert "<script>alert(1)</script> Portfolio" in text.read_text(encoding="utf-8")


def test_the_page_needs_nothing_else_and_is_written_over(world: sa.Engine, tmp_path: Path) -> None:
    tenant(world, "t")
    first = digest_pages.write_files(build(world), tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in first] == [
        f"{folder}/digest-2026-W19.{ending}"
        for folder in ("portfolio", "tenants/t")
        for ending in ("html", "txt")
    ]
    assert digest_pages.write_files(build(world), tmp_path) == first
    page = first[0].read_text(encoding="utf-8")
    assert "http" not in page
    assert "src=" not in page
    assert "USD 2,400" in page


def test_a_tenants_pages_hold_nothing_of_another(world: sa.Engine, tmp_path: Path) -> None:
    tenant(world, "one", name="Lemon")
    tenant(world, "two", name="Mango")
    written = {
        str(path.relative_to(tmp_path)): path for path in digest_pages.write_files(build(world), tmp_path)
    }
    for ending in ("html", "txt"):
        told = written[f"tenants/one/digest-2026-W19.{ending}"].read_text(encoding="utf-8")
        assert "Lemon" in told
        assert "Mango" not in told
        assert "Portfolio" not in told


def test_a_users_digest_writes_no_portfolio(world: sa.Engine, tmp_path: Path) -> None:
    user = member(world, tenant(world, "mine"))
    written = digest_pages.write_files(build(world, platform=False, user_id=user), tmp_path)
    assert {path.parent.name for path in written} == {"mine"}


def test_a_week_without_tenants_says_so(world: sa.Engine) -> None:
    assert "No tenant is switched on." in digest_pages.render_text(build(world))
    assert "No tenant is switched on." in digest_pages.render_html(build(world))
