"""The folder through which statements arrive: TENANT/BANK ACCOUNT/FILE, by the tenant's short name and the account's name.

A `mapping.yaml` beside the files says how they are read, where they do not say it themselves. A file that was imported
lies in `taken` afterwards, one that could not be in `refused`, with the reason beside it: mended and put back, it is taken.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import psycopg
import sqlalchemy as sa

from kernel import folders, tenancy
from kernel.books.ingest import importing, mapping
from kernel.books.ingest.importing import Imported
from kernel.errors import RefusedError
from models.books import bank_accounts

ACTOR = "inbox"
MAPPING = "mapping.yaml"
# What of a database's errors is the file's own fault: values that no table takes, and those too large for an index.
_OF_VALUES = (psycopg.DataError, psycopg.IntegrityError, psycopg.errors.ProgramLimitExceeded)
# What need not be the file's fault.
_PASSING = (psycopg.Error, sa.exc.SQLAlchemyError, OSError, MemoryError)


class UnforeseenError(RefusedError):
    """Of a file that was put away although nobody foresaw why; what was raised is its cause, and may tell what the file says."""


def waiting(root: Path) -> list[Path]:
    """Statements that lie there, the oldest first."""
    return [file for file in folders.arrived(root.glob("*/*/*")) if file.name != MAPPING]


def shown(file: Path) -> str:
    """A file's tenant, account and name as text that can be written anywhere."""
    return folders.text("/".join(file.parts[-3:]))


def take(engine: sa.Engine, file: Path, *, at: datetime) -> Imported:
    """Imports a statement and puts it away.

    Raises RefusedError, once it is put away, for a file of no account and one that cannot be read, and UnforeseenError for
    one of which that was not foreseen: it would come again each time. What a database or a disk raises leaves it where it
    is: it is taken again, and no line twice.
    """
    folder = file.parent
    try:
        told = folder / MAPPING
        given = mapping.load(told) if told.exists() else None
        with engine.begin() as connection:
            tenant, account_id = _account(connection, folder)
        imported = importing.import_file(
            engine, tenant.id, account_id, file, actor=ACTOR, at=at, mapping=given
        )
    except RefusedError as error:
        folders.refuse(file, folder / "refused", str(error))
        raise
    except Exception as error:
        if _is_passing(error):
            raise
        why = (
            f"{folders.text(file.name)} could not be imported, for a reason that nobody foresaw ({type(error).__name__}): hand it"
            " over in another format, and tell whoever runs the program"
        )
        folders.refuse(file, folder / "refused", why)
        raise UnforeseenError(why) from error
    folders.put(file, folder / "taken")
    return imported


def _is_passing(error: Exception) -> bool:
    # SQLAlchemy wraps what the driver raises, apart from what is copied; and what is no error of the driver as a bare one.
    of_values = isinstance(error, _OF_VALUES) or isinstance(getattr(error, "orig", None), _OF_VALUES)
    return isinstance(error, _PASSING) and not of_values and type(error) is not sa.exc.StatementError


def _account(connection: sa.Connection, folder: Path) -> tuple[tenancy.Tenant, object]:
    tenancy.service(connection)
    tenant = tenancy.find(connection, folder.parent.name)
    tenancy.service(connection, tenant.id)
    query = sa.select(bank_accounts.c.id).where(
        bank_accounts.c.tenant_id == tenant.id, bank_accounts.c.name == folder.name
    )
    found = connection.scalar(query)
    if found is None:
        raise RefusedError(
            f"{tenant.slug} has no bank account named {folders.text(folder.name)!r}: name the folder by one"
        )
    return tenant, found
