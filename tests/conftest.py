"""Fixtures every suite shares: one real PostgreSQL for the session, a migrated database of its own per test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

import pytest
import sqlalchemy as sa

from models import migrate, server

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_PLENTY = 8 << 30  # bytes: servers of several workers, each with the databases of a test


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Server]:
    with _quick_folder(tmp_path_factory) as folder:
        started = server.start(folder / "data")
        _hurry(started)
        yield started
        server.stop(folder / "data", mode="immediate")


@contextmanager
def _quick_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """In memory where there is plenty: a database is a thousand files, and some disks take a second to make them."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < _PLENTY:
        yield tmp_path_factory.mktemp("postgres")
        return
    with tempfile.TemporaryDirectory(prefix="revenue-os-tests-", dir=memory) as folder:
        yield Path(folder)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Writes dbt's manifest, where it is old, before there are workers that would write it at the same time."""
    from dagster_project.lib import dbt

    dbt.project()


def _hurry(started: server.Server) -> None:
    """Nothing on this server outlives the session, and autovacuum would go round its many databases all the time."""
    admin = sa.create_engine(started.url("postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        for setting in ("fsync", "full_page_writes", "autovacuum"):
            connection.exec_driver_sql(f"alter system set {setting} = off")
        connection.exec_driver_sql("alter system set max_wal_size = '256MB'")
        connection.exec_driver_sql("select pg_reload_conf()")
    admin.dispose()


@pytest.fixture(scope="session")
def _admin(postgres: server.Server) -> Iterator[sa.Engine]:
    made = sa.create_engine(postgres.url("postgres"), isolation_level="AUTOCOMMIT")
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def _create(postgres: server.Server, _admin: sa.Engine) -> Callable[[str, str], str]:
    """Creates a database from a template and gives its URL."""

    def create(name: str, template: str) -> str:
        with _admin.connect() as connection:
            connection.exec_driver_sql(f'create database "{name}" template "{template}" strategy file_copy')
        return postgres.url(name)

    return create


@pytest.fixture(scope="session")
def _migrated(_create: Callable[[str, str], str]) -> str:
    migrate.upgrade(_create("migrated", "template0"))
    return "migrated"


@pytest.fixture(scope="session")
def _copied(
    _create: Callable[[str, str], str], _migrated: str, _admin: sa.Engine
) -> Callable[[str], AbstractContextManager[str]]:
    """Makes a database at the newest revision, gives its URL and takes it away: left behind, they fill a disk."""

    ended: list[str] = []

    def drop_ended() -> None:
        with _admin.connect() as connection:
            while ended:
                connection.exec_driver_sql(f'drop database "{ended.pop()}" with (force)')

    @contextmanager
    def copied(name: str) -> Iterator[str]:
        if name in ended:
            drop_ended()
        yield _create(name, _migrated)
        # Those before it: the server waits a tenth of a second for connections that are just ending.
        drop_ended()
        ended.append(name)

    return copied


_numbers = count(1)


@pytest.fixture
def database_url(_copied: Callable[[str], AbstractContextManager[str]]) -> Iterator[str]:
    """A database at the newest revision that no other test sees."""
    with _copied(f"test_{next(_numbers)}") as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(_copied: Callable[[str], AbstractContextManager[str]]) -> Iterator[str]:
    """As database_url, for the tests of one module that build on each other's data."""
    with _copied(f"module_{next(_numbers)}") as url:
        yield url


@pytest.fixture(scope="module")
def warehouse_url(_copied: Callable[[str], AbstractContextManager[str]]) -> Iterator[str]:
    """As module_database_url, for modules that run dbt: it parses the project anew for a database of another name."""
    with _copied("warehouse") as url:
        yield url


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    made = sa.create_engine(database_url)
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not DATA.is_dir():
        pytest.skip("the folder of real data (../shared/data) is not here")
    return DATA
