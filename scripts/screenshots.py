"""Pictures of the running Dagster UI for the documentation, taken only once the page shows what they are of.

Starts nothing but a headless Chromium, which it drives over W3C WebDriver: JSON over HTTP, so the standard
library is enough. The UI is the one at --url (`make up`).
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
PATIENCE_SECONDS = 30
SETTLING_SECONDS = (
    2  # the colours of runs and checks come after the drawing, and no element says when all have
)

# From a file to a number, as (group, asset): what the lineage picture must show from left to right.
CHAIN = (
    ("landing", "revenue_events"),
    ("spine", "revenue_events"),
    ("staging", "stg_spine__revenue_events"),
    ("shared", "int_revenue_events"),
    ("paid", "metrics_paid"),
    ("metrics", "metric_snapshots_daily"),
)
# From the numbers to what came of acting on them.
LOOP = (
    ("metrics", "metric_snapshots_daily"),
    ("decisions", "results"),
    ("decisions", "cycles"),
    ("decisions", "actions"),
    ("decisions", "digest"),
)
# From what is written while sending to what is shown of it.
SENT = (("delivery", "channel_outbox"), ("delivery", "run_funnel"))
# From the ledger by what is counted of it to what is frozen and invoiced.
BILLED = (
    ("usage", "ingest_idempotency"),
    ("usage", "usage_ledger_daily"),
    ("usage", "site_usage_monthly"),
    ("usage", "reconciliation"),
    ("usage", "invoice_snapshot"),
)
LANDED, SNAPSHOTS = "landing/revenue_events", "analytics/metric_snapshots_daily"
ACTIONS = "decisions/actions"
FUNNEL, LATENCY = "delivery/run_funnel", "delivery/latency"
TREND = "gross_margin_pct"  # of comparable size for every tenant

_GROUPS = """
return [...document.querySelectorAll('foreignObject.group')].map(e => {
  const {left, right, top, bottom} = e.getBoundingClientRect();
  return {name: e.firstElementChild.innerText.split('\\n')[0], left, right, top, bottom};
});
"""
# The middle of each node, and whether a reader sees it: a dialog, a side bar or the window's edge may hide it.
_NODES = """
return [...document.querySelectorAll('foreignObject:not(.group)')].filter(e => e.textContent).map(e => {
  const box = e.getBoundingClientRect(), x = (box.left + box.right) / 2, y = (box.top + box.bottom) / 2;
  const label = e.querySelector('[class*="assetName"]') ?? e;
  return {label: label.textContent, x, y, visible: e.contains(document.elementFromPoint(x, y))};
});
"""
_EDGES = "return document.querySelectorAll('path[marker-end]').length"
_FOLD_SIDE_BARS = (
    "document.querySelectorAll('button:has([aria-label=panel_show_right])').forEach(b => b.click())"
)
_EXPAND_ALL_GROUPS = (
    "document.body.dispatchEvent(new KeyboardEvent('keydown', {code: 'KeyE', altKey: true, bubbles: true}))"
)
_SHOW_MARKDOWN = "[...document.querySelectorAll('tr')].find(r => r.innerText.startsWith(arguments[0])).querySelector('a').click()"
_PICTURE_LOADED = 'return document.querySelector(`img[alt="${arguments[0]}"]`)?.naturalWidth > 0'


class PictureError(Exception):
    """The page does not show what the picture is of, or no picture can be taken."""


@dataclass(frozen=True, slots=True)
class Browser:
    """One window of a headless Chromium."""

    port: int
    session: str

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a JavaScript function of this body returns in the page."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": arguments})

    def picture(self) -> bytes:
        """What the window shows, as PNG."""
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def resize(self, width: int, height: int) -> None:
        """Gives the page itself this size in pixels, whatever the window adds around it."""
        inner = self.run("return [innerWidth, innerHeight]")
        outer = self._ask("GET", "/window/rect")
        around = (outer["width"] - inner[0], outer["height"] - inner[1])
        self._ask("POST", "/window/rect", {"width": width + around[0], "height": height + around[1]})

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return _webdriver(self.port, method, f"/session/{self.session}{path}", body)


def _webdriver(port: int, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2 * PATIENCE_SECONDS)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        value = json.loads(connection.getresponse().read())["value"]
    finally:
        connection.close()
    if isinstance(value, dict) and "error" in value:
        raise PictureError(f"The browser refused {method} {path}: {value['message'].splitlines()[0]}.")
    return value


@contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium with an empty profile, gone at the end. Raises PictureError when there is none to start."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not (driver and chromium):
        raise PictureError("There is no Chromium here: apt-get install chromium chromium-driver.")
    flags = ["--headless=new", "--hide-scrollbars"]
    flags += ["--disable-dev-shm-usage"]  # containers have 64 MB of it
    if os.geteuid() == 0:
        flags += ["--no-sandbox"]  # which Chromium cannot build as root, and the only page is our own
    options = {"goog:chromeOptions": {"binary": chromium, "args": flags}}
    process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)  # noqa: S603
    try:
        port = _port(process)
        created = _webdriver(port, "POST", "/session", {"capabilities": {"alwaysMatch": options}})
        try:
            yield Browser(port, created["sessionId"])
        finally:
            _webdriver(port, "DELETE", f"/session/{created['sessionId']}")
    finally:
        process.terminate()
        process.communicate()


def _port(process: subprocess.Popen[str]) -> int:
    for line in process.stdout or ():
        if found := re.search(r"started successfully on port (\d+)", line):
            return int(found[1])
    raise PictureError("chromedriver ended before it was ready.")


def _await(missing: Callable[[], Sequence[str]], page: str) -> None:
    """Returns when nothing is missing any more. Raises PictureError with what still is."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while still := missing():
        if time.monotonic() > deadline:
            raise PictureError(f"After {PATIENCE_SECONDS} s {page} does not show: {', '.join(still)}.")
        time.sleep(0.25)


def _dismiss_sign_up(window: Browser, url: str) -> None:
    # A Dagster that has not been told otherwise greets each new browser with a form over the page.
    window.open(f"{url}/server_info")
    window.run("localStorage.setItem('communityNux', JSON.stringify('1'))")


def shows(label: str, name: str) -> bool:
    """Whether a node's label is of this asset; the UI shortens long names in the middle."""
    head, dots, tail = label.partition("…")
    return name.startswith(head) and name.endswith(tail) if dots else label == name


def lineage(window: Browser, url: str) -> None:
    """The graph from a landed file to the metric snapshots, by way of the groups of the chain."""
    among = " or ".join(f'group:"{group}"' for group in _groups_of(CHAIN))
    # What lies between the two ends, so nothing is there at all when no way leads from one to the other.
    # Coverage is left out: it feeds every metric, and its edges would cross the picture.
    query = f'key:"{LANDED}"+ and +key:"{SNAPSHOTS}" and ({among}) and not key:"*_coverage"'
    window.resize(1600, 480)
    _graph(window, url, query, CHAIN)


def decisions(window: Browser, url: str) -> None:
    """The graph from the metric snapshots by way of results, cycles and actions to the digest."""
    window.resize(1600, 560)
    _graph(window, url, f'key:"{SNAPSHOTS}" or group:"decisions"', LOOP)


def deliveries(window: Browser, url: str) -> None:
    """The graph from what is written while sending to the funnel and the latency, with their checks."""
    window.resize(1200, 800)
    _graph(window, url, f'+key:"{FUNNEL}" or +key:"{LATENCY}"', SENT)
    _await(lambda: _missing_text(window, ["Passed"]), "the checks of the funnel")


def usage(window: Browser, url: str) -> None:
    """The graph from the ledger of events to the snapshots that invoices are made of."""
    window.resize(1700, 760)
    _graph(window, url, 'group:"usage" and +key:"usage/invoice_snapshot"', BILLED)


def _graph(window: Browser, url: str, query: str, chain: Sequence[tuple[str, str]]) -> None:
    window.open(f"{url}/asset-groups~{quote(query, safe='')}")
    _await(lambda: _missing_groups(window, _groups_of(chain)), "the lineage graph")
    # In this order, since the graph is fitted to the room there is when its groups are opened.
    window.run(_FOLD_SIDE_BARS)
    window.run(_EXPAND_ALL_GROUPS)
    _await(lambda: _missing_in_chain(window, chain), "the lineage graph")


def _groups_of(chain: Sequence[tuple[str, str]]) -> list[str]:
    return list(dict.fromkeys(group for group, _ in chain))


def _missing_groups(window: Browser, groups: Sequence[str]) -> list[str]:
    if len(groups) == 1:  # which gets no box
        return [] if window.run(_NODES) else ["any asset"]
    drawn = {group["name"] for group in window.run(_GROUPS)}
    return [f"group {group}" for group in groups if group not in drawn]


def _missing_in_chain(window: Browser, chain: Sequence[tuple[str, str]]) -> list[str]:
    """What of the chain is not visible in its group, or not right of what it is computed from."""
    boxes = {group["name"]: group for group in window.run(_GROUPS)}
    nodes, missing, left = window.run(_NODES), [], float("-inf")
    for group, name in chain:
        found = [
            node["x"]
            for node in nodes
            if node["visible"]
            and shows(node["label"], name)
            and (not boxes or _within(node, boxes.get(group)))
        ]
        if not found or min(found) <= left:
            missing.append(f"{name} in {group}")
        left = min(found, default=left)
    return missing if missing or window.run(_EDGES) >= len(chain) - 1 else ["the edges"]


def _within(node: Mapping[str, Any], box: Mapping[str, Any] | None) -> bool:
    return bool(box) and box["left"] <= node["x"] <= box["right"] and box["top"] <= node["y"] <= box["bottom"]


def asset(window: Browser, url: str) -> None:
    """The page of the metric snapshots: last computed when, its checks, what it is, its columns."""
    window.resize(1600, 1000)
    window.open(f"{url}/assets/{SNAPSHOTS}")
    expected = ["Latest materialization", "ago", "Latest check results", "Columns", "value_status"]
    _await(lambda: _missing_text(window, expected), "the page of the snapshots")


def trends(window: Browser, url: str) -> None:
    """The chart of one headline metric, from the last run's observation of the snapshots."""
    window.resize(1600, 640)
    window.open(f"{url}/assets/{SNAPSHOTS}?view=events")
    _await(lambda: _missing_text(window, [TREND, "Show Markdown"]), "the last event of the snapshots")
    window.run(_SHOW_MARKDOWN, TREND)
    _await(lambda: [] if window.run(_PICTURE_LOADED, TREND) else [f"the chart of {TREND}"], "the dialog")


def today(window: Browser, url: str) -> None:
    """What today's cycles propose, from the last event of the actions."""
    window.resize(1600, 640)
    window.open(f"{url}/assets/{ACTIONS}?view=events")
    _await(lambda: _missing_text(window, ["today", "Show Markdown"]), "the last event of the actions")
    window.run(_SHOW_MARKDOWN, "today")
    # Without the table's head there is only a sentence that nothing was proposed.
    _await(lambda: _missing_text(window, ["tenant", "action", "awaiting_ack"]), "the dialog")


def funnel(window: Browser, url: str) -> None:
    """What became of the newest runs of campaigns, from the last event of their funnel."""
    window.resize(1900, 680)
    window.open(f"{url}/assets/{FUNNEL}?view=events")
    # Without the table's head there is only a sentence that nothing was launched.
    _await(
        lambda: _missing_text(window, ["newest", "accepted", "suppressed"]), "the last event of the funnel"
    )


def _missing_text(window: Browser, expected: Sequence[str]) -> list[str]:
    text = window.run("return document.body.innerText")
    return [part for part in expected if part not in text]


PICTURES = {
    "lineage": lineage, "asset": asset, "trends": trends, "decisions": decisions, "today": today,
    "deliveries": deliveries, "funnel": funnel, "usage": usage,
}  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pictures", nargs="*", metavar="picture", help=f"{', '.join(PICTURES)}; all if none")
    parser.add_argument("--url", default="http://127.0.0.1:3000", help="where the UI is")
    parser.add_argument("--into", type=Path, default=IMAGES, help="the folder the pictures go to")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.pictures) - set(PICTURES):
        raise PictureError(f"There is no picture {', '.join(unknown)}: choose among {', '.join(PICTURES)}.")
    for name in asked.pictures or PICTURES:
        with browser() as window:
            _dismiss_sign_up(window, asked.url)
            PICTURES[name](window, asked.url)
            time.sleep(SETTLING_SECONDS)
            file = asked.into / f"{name}.png"
            file.write_bytes(window.picture())
            print(file)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except PictureError as error:
        sys.exit(f"Error: {error}")
