"""What was typed, as what it stands for: tenants, people, runs, instants, accounts.

Refusals of the kernel stand there; what a command says stands in `campaign_views`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from dagster_project.cli import ui
from kernel.text import UNSEEN, is_worded

if TYPE_CHECKING:
    import sqlalchemy as sa

    from kernel import tenancy

# Who may write and launch what somebody else approved; who may let things through, and who may stop them.
ANYBODY = ("owner", "approver", "member")
HASH_DIGITS = 16  # to make another text of the same beginning takes 64 bits


def worded(why: str) -> str:
    """A reason that people can read. Fails for another one."""
    if not is_worded(why) or UNSEEN.search(why.replace("\n", " ")):
        ui.fail(f"the reason {why!r} cannot be read: write it in plain text")
    return why


Tenant = Annotated[str, typer.Option("--tenant", "-t", help="Slug or id.")]
Campaign = Annotated[
    str, typer.Argument(help="Name, id, or the beginning of the id of at least 8 characters.")
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id, or its beginning of at least 8 characters.")]
Channel = Annotated[str | None, typer.Option(help="email, sms or voice; needed when there are several.")]
Step = Annotated[int | None, typer.Option(help="Of a sequence of messages; the last one when left out.")]
As = Annotated[
    str, typer.Option("--as", help="Who speaks: name or id of a user of the tenant; else REVENUE_OS_USER.")
]
Why = Annotated[str, typer.Option("--why", help="The reason; it is kept for good.", callback=worded)]
# Of a command that also shows: what it changes is worded.
PerhapsWhy = Annotated[str, typer.Option("--why", help="The reason; it is kept for good.")]


@contextmanager
def of(tenant: str) -> Iterator[tuple[sa.Connection, tenancy.Tenant]]:
    """A transaction that is pinned to the tenant."""
    from kernel import tenancy

    with ui.connection() as connection:
        found = tenancy.find(connection, tenant)
        tenancy.service(connection, found.id)
        yield connection, found


def named(user: str) -> str:
    """Who speaks, as typed or set. Fails for nobody; whether they may, is asked elsewhere."""
    from dagster_project.settings import settings

    who = user or settings().user
    if not who:
        ui.fail(
            "name who speaks with --as, or set REVENUE_OS_USER; revenue-os tenant member lists and adds people"
        )
    return who


def speaker(connection: sa.Connection, tenant_id: UUID, user: str, roles: Sequence[str] = ()) -> str:
    """The id of who speaks, as records keep it: who may approve, unless other roles may. Fails for anybody else."""
    from kernel import members

    found = members.find(connection, tenant_id, named(user))
    allowed = roles or members.APPROVERS
    if found.role not in allowed:
        ui.fail(f"{found.name} is no {' or '.join(sorted(allowed))} of the tenant: ask one")
    return str(found.user_id)


def problems(account: Any) -> list[str]:
    """Why the account cannot be used from here, in sentences."""
    from kernel.delivery.providers import registry

    told = []
    for word in registry.problems(account):
        if word == "credentials":
            told.append(
                f"the secret of account {account.name} is not there: set {account.secret_env} in the environment"
                if account.secret_env
                else f"account {account.name} names no secret: give --secret-env"
            )
        elif word == "channel":
            told.append(no_channel(account.provider, account.channel))
        elif word.startswith("config."):
            told.append(no_key(account.provider, word.removeprefix("config.")))
        else:
            told.append(
                f"{word} of account {account.name} is missing or wrong: see docs/reference/providers.md"
            )
    return told


def no_channel(provider: str, channel: str) -> str:
    """That the provider does not have it, in a sentence."""
    from kernel.delivery.providers import registry

    return f"provider {provider} has no channel {channel!r}: use {', '.join(registry.PROVIDERS[provider].channels)}"


def no_key(provider: str, key: str) -> str:
    """That there is no such key of its configuration, in a sentence."""
    from kernel.delivery.providers import registry

    known = ", ".join(sorted(registry.PROVIDERS[provider].Config.model_fields))
    return f"{key!r} is no key of provider {provider}: use {known}; --set {key}= takes it away"


def instant(text: str, time_zone: str) -> datetime:
    """An instant in ISO 8601; without an offset it is meant in the time zone. Fails for a time that does not exist."""
    from zoneinfo import ZoneInfo, available_timezones

    if time_zone not in available_timezones():
        ui.fail(f"time zone {time_zone!r} is unknown: use a name such as Europe/Berlin")
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
        there = found.replace(tzinfo=ZoneInfo(time_zone)).astimezone(UTC)
    except (ValueError, OverflowError):
        ui.fail(f"{text!r} is no instant: write it as 2026-12-01T09:00, or with an offset as …T09:00+01:00")
    if there.astimezone(ZoneInfo(time_zone)).replace(tzinfo=None) != found:
        ui.fail(f"{text} does not exist in {time_zone}: clocks are put forward then, name another time")
    return there


def day(text: str) -> date:
    """A day such as 2026-12-31."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        ui.fail(f"{text!r} is no day: write it as 2026-12-31")


def uuid(text: str) -> UUID:
    """A whole id."""
    try:
        return UUID(text)
    except ValueError:
        ui.fail(f"{text!r} is no id: give all of it, as --json shows it")


def text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        ui.fail(f"{file} is no UTF-8 text: save it as that")
    except OSError as error:
        ui.fail(f"{file} cannot be read: {error.strerror}")


def addresses(given: list[str] | None, file: Path | None) -> list[str]:
    """What was typed, and every line of the file. Fails for none."""
    found = [*(given or []), *(text_of(file).splitlines() if file else [])]
    found = [address.strip() for address in found if address.strip()]
    if not found:
        ui.fail("no address was given: name them, or a --file with one a line")
    return list(dict.fromkeys(found))


def whole_hash(stored: str, beginning: str, what: str = "content", show: str = "preview") -> str:
    """The stored hash if it begins so. Told the right one, people would approve what they have not seen.

    `what` it is of, and the word for how to `show` that, are for the error.
    """
    if len(beginning) < HASH_DIGITS:
        ui.fail(f"hash {beginning!r} is too short: give at least {HASH_DIGITS} digits")
    if not stored.startswith(beginning.lower()):
        ui.fail(f"the {what} is not what was shown: {show} it again and approve what you see then")
    return stored


def now() -> datetime:
    return datetime.now(UTC)
