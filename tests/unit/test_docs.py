"""The documentation: links that lead somewhere, commands that exist, numbers and words that are the code's. No database."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dagster_project.cli import app
from kernel.actions import lifecycle
from kernel.decisions import gates, triggers
from kernel.decisions.contract import HTTP_STATUS
from kernel.decisions.weights import DEFAULT_WEIGHTS
from models import delivery
from models.vocabulary import EXECUTION_STATUSES

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])
ACTIONS = ROOT / "docs/reference/actions.md"
DELIVERY = ROOT / "docs/reference/delivery.md"
DECISIONS = ROOT / "docs/reference/decisions.md"
COMMANDS = ROOT / "docs/reference/cli.md"

_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_FENCED = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_CALL = re.compile(r"(?:^|[\s(\"'/])revenue-os ([^\n]*)")


@cache
def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", text(page)), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> list[str]:
    found = []
    for target, anchor in _LINK.findall(_FENCED.sub("", text(page))):
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            found.append(f"{target}#{anchor}" if anchor else target)
    return found


def calls(content: str) -> list[str]:
    """The arguments of each `revenue-os` in code, without comments and what else stands on the line in a shell."""
    code = [*_FENCED.findall(content), *_INLINE.findall(_FENCED.sub("", content))]
    lines = re.sub(r"\s*\\\n\s*", " ", "\n".join(code))
    lines = re.sub(r"\$\([^)]*\)", "VALUE", lines)
    return [re.split(r"\s(?:#|\||>|&&|;)|\s{2,}|\)", call)[0].strip() for call in _CALL.findall(lines)]


@cache
def command_line() -> Any:
    return get_command(app)


def wrong(call: str) -> str | None:
    """What of a call the command line does not know; None when it knows all of it."""
    try:
        words = shlex.split(call)
    except ValueError:
        words = call.split()
    command = command_line()
    named = []
    while words and hasattr(command, "commands") and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        if words[0] not in command.commands:
            return f"{' '.join([*named, words[0]])} is no command"
        named.append(words[0])
        command = command.commands[words.pop(0)]
    if command.name == "psql":
        return None  # its arguments are those of psql
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    strange = [word for word in words if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known]
    return f"{' '.join(named)} has no {', '.join(strange)}" if strange else None


def group(name: str) -> dict[str, Any]:
    return command_line().commands[name].commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path):
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("# One\n[gone](gone.md) [there](#one) [nowhere](#two)\n", encoding="utf-8")
    assert dead_links(page) == ["gone.md", "#two"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_shown_exists_with_its_options(page: Path):
    assert [told for call in calls(text(page)) if (told := wrong(call))] == []


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ("```\nrevenue-os actions aprove 1234 -t acme\n```\n", "actions aprove is no command"),
        ("`revenue-os decide run --tenants acme`", "decide run has no --tenants"),
        (
            "```\n.venv/bin/revenue-os tenant config acme \\\n  --autor me  # me\n```\n",
            "tenant config has no --autor",
        ),
    ],
)
def test_a_command_that_does_not_exist_is_found(shown: str, told: str):
    assert [wrong(call) for call in calls(shown)] == [told]


@pytest.mark.parametrize("name", ["decide", "actions", "campaign", "tenant", "certify"])
def test_the_reference_lists_every_command_of_a_group_with_its_options(name: str):
    rows = re.findall(
        rf"^\| `{name} ([a-z]+)[^`]*` \| [^|]* \| ([^|]*)\|", text(COMMANDS), flags=re.MULTILINE
    )
    documented = {command: set(re.findall(r"`(--[a-z-]+)`", options)) for command, options in rows}
    found = {}
    for command, made in group(name).items():
        options = {max(each.opts, key=len) for each in made.params if each.opts[0].startswith("-")}
        found[command] = options - {"--json", "--help"}
    assert documented == found


def test_the_diagram_of_statuses_is_what_may_happen():
    drawn = set(re.findall(r"^    (\w+) --> (\w+)", text(ACTIONS), flags=re.MULTILINE))
    allowed = {(status, to) for status, following in lifecycle.TRANSITIONS.items() for to in following}
    assert drawn == allowed


def test_every_status_is_explained():
    table = text(ACTIONS).split("| Status | Means |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= set(EXECUTION_STATUSES)


def test_every_error_code_has_its_remedy():
    table = text(DECISIONS).split("| Code | Examples |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == set(HTTP_STATUS)


@pytest.mark.parametrize("words", [
    delivery.ITEM_STATUSES, delivery.RUN_STATUSES, delivery.JOB_STATUSES, delivery.DELIVERY_STATUSES,
    delivery.SUPPRESSIONS, delivery.PROVIDERS,
])  # fmt: skip
def test_every_word_of_deliveries_is_explained(words: tuple[str, ...]):
    assert set(words) - set(re.findall(r"`(\w+)`", text(DELIVERY))) == set()


def test_every_family_that_has_a_prior_is_described():
    described = set(re.findall(r"`([a-z_]+)`", text(DECISIONS)))
    assert set(DEFAULT_WEIGHTS.families) - described == set()


def test_every_trigger_that_looks_at_a_metric_is_described_with_its_share():
    for deviation in triggers.DEVIATIONS:
        told = f"| deviation of `{deviation.metric_id}` | more than {deviation.share:.0%}".replace("%", " %")
        assert told in text(DECISIONS), told


@pytest.mark.parametrize(
    ("page", "sentence"),
    [
        (ACTIONS, f"for {lifecycle.GOOD_FOR.total_seconds() / 3600:.0f} hours"),
        (DECISIONS, f"A breach is remembered for {gates.MEMORY.days} days"),
        (DECISIONS, f"has a window over {gates.CASH_MAX_WINDOW_DAYS} days"),
        (DECISIONS, f"exposes more than {gates.CASH_MAX_EXPOSURE_PCT} %"),
        (DECISIONS, f"floor + {gates.MARGIN_STEP_POINTS} points"),
    ],
)
def test_a_number_in_the_reference_is_the_codes(page: Path, sentence: str):
    assert sentence in text(page)
