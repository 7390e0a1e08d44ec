"""The weekly digest as people read it: plain text and one page of HTML. What it says is built in `digest`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from decimal import Decimal
from html import escape
from pathlib import Path

from kernel.decisions.dictionary import METRICS
from kernel.decisions.digest import Digest, TenantDigest

_NAMES = {
    "payback_months": "Payback, months",
    "cac_blended": "CAC",
    "gross_margin_pct": "Gross margin",
    "contribution_margin_pct": "Contribution margin",
    "revenue_per_fte": "Revenue per FTE",
    "sales_efficiency_ratio": "Sales efficiency",
}
_NOTHING = "–"


def render_text(digest: Digest) -> str:
    """Plain text, one fact a line."""
    lines = [_title(digest)]
    for cells in _portfolio_rows(digest):
        lines.append("Portfolio, {}: median {}, weighted by ARR {}".format(*cells))
    lines += [f"Portfolio: {line}" for line in _unknown(digest)]
    for tenant in digest.tenants:
        name = _one_line(tenant.name)
        lines += ["", name, "-" * len(name)]
        lines += [_metric_line(*row, since=bool(tenant.switched_on)) for row in _metric_rows(tenant)]
        lines += _summary(tenant)
        for what, *rest in _action_rows(tenant):
            lines.append(_one_line("* {}: {}; target {}, economics {}; approved by {}".format(what, *rest)))
    return "\n".join([*lines, *_nobody(digest)]) + "\n"


def render_html(digest: Digest) -> str:
    """One page that needs nothing else. Every text is escaped where it enters the page."""
    parts = []
    if digest.portfolio:
        parts.append("<h2>Portfolio</h2>")
        if rows := _portfolio_rows(digest):
            parts.append(_table(("Metric", "Median", "Weighted by ARR"), rows))
        parts += [f"<p>{escape(line)}</p>" for line in _unknown(digest)]
    for tenant in digest.tenants:
        head = ["Metric", "Value", "In the week", "Since switched on", "Note"]
        rows = [list(row) for row in _metric_rows(tenant)]
        if tenant.switched_on is None:
            for row in (head, *rows):
                del row[3]
        parts += [
            f"<h2>{escape(tenant.name)}</h2>",
            _table(head, rows),
            *(f"<p>{escape(line)}</p>" for line in _summary(tenant)),
        ]
        if tenant.actions:
            head = ("Action", "Before and after", "Target", "Economics", "Approved by")
            parts.append(_table(head, _action_rows(tenant)))
    parts += [f"<p>{line}</p>" for line in _nobody(digest)]
    return _PAGE.format(title=escape(_title(digest)), body="\n".join(parts))


def write_files(digest: Digest, folder: Path) -> tuple[Path, ...]:
    """Writes a page and a text for each tenant, and for the platform one of all; gives them, the platform's first.

    A tenant's folder holds nothing of another. Those of an earlier run for the same week are written over.
    """
    written = _write(digest, folder / "portfolio") if digest.portfolio is not None else ()
    for tenant in digest.tenants:
        own = dataclasses.replace(digest, tenants=(tenant,), portfolio=None)
        written += _write(own, folder / "tenants" / tenant.slug)
    return written


def _write(digest: Digest, folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    page, text = (folder / f"digest-{digest.week}.{ending}" for ending in ("html", "txt"))
    page.write_text(render_html(digest), encoding="utf-8")
    text.write_text(render_text(digest), encoding="utf-8")
    return page, text


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h2 {{ margin-top: 2.5rem; overflow-wrap: anywhere; }}
table {{ border-collapse: collapse; width: 100%; margin: 1rem 0; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #8884; }}
td {{ overflow-wrap: anywhere; }}
</style></head>
<body><h1>{title}</h1>
{body}
</body></html>
"""


def _title(digest: Digest) -> str:
    return f"Revenue OS, week {digest.week} ({digest.first} to {digest.last})"


def _nobody(digest: Digest) -> list[str]:
    return [] if digest.tenants else ["No tenant is switched on."]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in head)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead>\n<tbody>{body}</tbody></table>"


def _portfolio_rows(digest: Digest) -> list[tuple[str, str, str]]:
    unknown = _unknown_currencies(digest)
    return [
        (
            f"{_NAMES[line.metric_id]}, tenants in {line.currency}",
            f"{_shown(line.median, line.metric_id, line.currency)} (n = {line.n})",
            f"{_shown(line.weighted_mean, line.metric_id, line.currency)} (n = {line.weighted_n})",
        )
        for line in digest.portfolio or ()
        if line.currency not in unknown
    ]


def _unknown(digest: Digest) -> list[str]:
    found = _unknown_currencies(digest)
    return [f"nothing is known of the week for tenants in {', '.join(found)}."] if found else []


def _unknown_currencies(digest: Digest) -> list[str]:
    lines = digest.portfolio or ()
    return sorted({line.currency for line in lines} - {line.currency for line in lines if line.n})


def _metric_rows(tenant: TenantDigest) -> list[tuple[str, str, str, str, str]]:
    return [
        (
            _NAMES[line.metric_id],
            _shown(line.value, line.metric_id, tenant.currency),
            _shown(line.week_change, line.metric_id, tenant.currency, sign="+"),
            _shown(line.baseline_change, line.metric_id, tenant.currency, sign="+"),
            ""
            if not line.stale
            else f"no value: {line.stale}"
            if line.value is None
            else f"STALE: {line.stale}",
        )
        for line in tenant.metrics
    ]


def _metric_line(metric: str, value: str, week: str, baseline: str, note: str, *, since: bool) -> str:
    told = f"{metric}: {value}"
    if value != _NOTHING:
        told += f"; {week} in the week" + (f", {baseline} since switched on" if since else "")
    return f"{told} ({note})" if note else told


def _summary(tenant: TenantDigest) -> list[str]:
    counts = ", ".join(f"{number} {verdict}" for verdict, number in tenant.verdicts.items())
    closed = sum(tenant.verdicts.values())
    lines = [f"Actions closed: {closed}; by their economics {counts}. Taken back: {tenant.reverted}."]
    if tenant.verdicts["hurt"] > tenant.verdicts["improved"]:
        lines.append("More actions hurt the economics than improved them.")
    if not tenant.gates_enabled:
        return [*lines, "The CFO gates are switched off."]
    fired = ", ".join(f"{gate} in {cycles}" for gate, cycles in tenant.gates.items())
    return [*lines, f"Gates triggered, by cycles: {fired or 'none'}."]


def _action_rows(tenant: TenantDigest) -> list[tuple[str, str, str, str, str]]:
    return [
        (
            f"{line.action_id}: {line.hypothesis}",
            f"{line.target_metric} {_shown(line.before, line.target_metric, tenant.currency)}"
            f" → {_shown(line.after, line.target_metric, tenant.currency)}",
            line.outcome,
            line.economics,
            line.approved_by,
        )
        for line in tenant.actions
    ]


def _shown(value: Decimal | None, metric_id: str, currency: str, sign: str = "") -> str:
    """A value in the unit of its metric, as one reads it; a dash for none. `sign` is + for a change."""
    if value is None:
        return _NOTHING
    unit = METRICS[metric_id].unit
    if unit.startswith("currency"):
        return f"{currency} {value:{sign}z,.0f}"
    if unit == "fraction":
        return f"{value * 100:{sign}z.1f} %"
    if unit == "percent":
        return f"{value:{sign}z.1f} {'points' if sign else '%'}"
    return f"{value:{sign}z,.2f}"


def _one_line(text: str) -> str:
    """A name cannot begin a line of its own."""
    return " ".join(text.split())
