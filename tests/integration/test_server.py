"""The embedded server with real starts and real kills, and the addresses of a real database."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from models import address, server

ROOT = Path(__file__).resolve().parents[2]
START = (
    "import sys; from pathlib import Path; from models import server; print(server.start(Path(sys.argv[1])))"
)


@pytest.fixture(scope="module")
def kept_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory that the tests of this module hand on, started or stopped, but whole."""
    data_dir = tmp_path_factory.mktemp("kept") / "pg"
    yield data_dir
    server.stop(data_dir, "immediate")


@pytest.fixture
def running(kept_dir: Path) -> server.Server:
    return server.start(kept_dir)


@pytest.fixture
def new_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory that does not exist yet."""
    yield tmp_path / "pg"
    server.stop(tmp_path / "pg", "immediate")


def postmaster_pid(data_dir: Path) -> int:
    return int((data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])


def starter(data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, str(data_dir)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def ask(running: server.Server, query: str) -> object:
    with address.connected(running.url("postgres")) as connection:
        return connection.scalar(sa.text(query))


def do(running: server.Server, statements: str) -> None:
    with address.connected(running.url("postgres")) as connection:
        connection.execute(sa.text(statements))


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def kill_postmaster(data_dir: Path) -> None:
    process = psutil.Process(postmaster_pid(data_dir))
    process.kill()
    process.wait(timeout=10)


def test_a_new_server_listens_on_a_private_socket_only(running: server.Server):
    assert ask(running, "show listen_addresses") == ""
    assert stat.S_IMODE(running.socket_dir.stat().st_mode) == 0o700


def test_a_new_server_has_checksums_and_sorts_alike_on_every_machine(running: server.Server):
    assert ask(running, "show data_checksums") == "on"
    assert ask(running, "show server_encoding") == "UTF8"
    assert ask(
        running, "select concat(datlocprovider, datlocale) from pg_database where datname = 'template1'"
    ) == ("bC.UTF-8")


def test_a_new_server_never_forgets_a_commit(running: server.Server):
    assert ask(running, "show synchronous_commit") == "on"
    assert ask(running, "show fsync") == "on"


def test_a_second_start_finds_the_running_server(running: server.Server):
    before = postmaster_pid(running.data_dir)
    assert server.start(running.data_dir) == running
    assert postmaster_pid(running.data_dir) == before


def test_status_tells_a_running_server_from_a_stopped_one(running: server.Server):
    assert server.status(running.data_dir) == running
    assert server.stop(running.data_dir) is True
    assert server.status(running.data_dir) is None
    assert server.stop(running.data_dir) is False


def test_the_server_outlives_the_process_that_started_it(kept_dir: Path):
    server.stop(kept_dir)
    process = starter(kept_dir)
    process.communicate(timeout=60)
    assert process.returncode == 0
    found = server.status(kept_dir)
    assert found is not None
    assert ask(found, "select 1") == 1


def test_an_interrupt_at_the_starters_terminal_does_not_reach_the_server(running: server.Server):
    assert os.getsid(postmaster_pid(running.data_dir)) != os.getsid(0)


def test_a_restart_keeps_the_data(running: server.Server):
    do(running, "drop table if exists kept; create table kept as select 7 as seven")
    server.stop(running.data_dir)
    assert ask(server.start(running.data_dir), "select seven from kept") == 7


def test_a_killed_server_is_recovered_on_the_next_start(running: server.Server):
    do(running, "drop table if exists committed; create table committed as select 7 as seven")
    killed = postmaster_pid(running.data_dir)
    kill_postmaster(running.data_dir)
    assert postmaster_pid(running.data_dir) == killed, "the stale file is what this test is about"
    assert server.status(running.data_dir) is None
    assert ask(server.start(running.data_dir), "select seven from committed") == 7


def test_a_process_that_was_given_the_dead_servers_id_does_not_prevent_a_start(running: server.Server):
    kill_postmaster(running.data_dir)
    marks = [running.data_dir / "postmaster.pid", running.socket_dir / f".s.PGSQL.{running.port}.lock"]
    owner = running.data_dir.stat().st_uid
    # Of the server's own account: PostgreSQL takes another account's process for no server by itself.
    bystander = subprocess.Popen(["sleep", "60"], user=owner if os.geteuid() == 0 else None)
    try:
        for mark in marks:
            lines = mark.read_text(encoding="utf-8").splitlines()
            mark.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n", encoding="utf-8")
        assert ask(server.start(running.data_dir), "select 1") == 1
        assert bystander.poll() is None, "a process that is no server was ended"
    finally:
        bystander.kill()
        bystander.wait()


def test_a_query_that_outlived_its_server_is_ended_before_the_next_start(running: server.Server):
    environment = os.environ | address.libpq_environment(running.url("postgres"))
    # One long step that never looks up: no statement boundary, no wait, nothing to notice the death by.
    endless = "select count(*) from generate_series(1, 20000000) a, generate_series(1, 20000000) b"
    client = subprocess.Popen(
        [server.program("psql"), "-c", endless], env=environment, stderr=subprocess.PIPE
    )
    try:
        busy = "select pid from pg_stat_activity where query like 'select count%' and state = 'active'"
        wait_for(lambda: ask(running, busy), "the query to run")
        backend = psutil.Process(int(str(ask(running, busy))))
        kill_postmaster(running.data_dir)
        assert ask(server.start(running.data_dir), "select 1") == 1
        assert not backend.is_running()
    finally:
        client.kill()
        client.communicate()


def test_a_starter_killed_while_it_makes_the_data_directory_leaves_the_next_one_free(new_dir: Path):
    process = starter(new_dir)
    wait_for(lambda: list(new_dir.parent.glob(".pg.new-*/PG_VERSION")), "initdb to be half-way")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not new_dir.exists(), "the starter was killed too late to be half-way"
    assert ask(server.start(new_dir), "select 1") == 1
    assert sorted(path.name for path in new_dir.parent.iterdir() if not path.name.startswith(".pg.new-")) == [
        "pg",
        "pg.lock",
    ]


def test_the_remains_of_a_killed_starter_are_removed(kept_dir: Path):
    server.start(kept_dir)
    server.stop(kept_dir)
    remains = kept_dir.with_name(f".{kept_dir.name}.new-abc")
    (remains / "base").mkdir(parents=True)
    server.start(kept_dir)
    assert not remains.exists()


def test_two_processes_racing_to_start_get_the_same_server(new_dir: Path):
    for turn in range(5):  # the first from nothing, then in turn from a clean stop and from a kill
        racers = [starter(new_dir) for _ in range(2)]
        told = {racer.communicate(timeout=120)[0] for racer in racers}
        assert [racer.returncode for racer in racers] == [0, 0]
        assert len(told) == 1
        (pid,) = {process.info["pid"] for process in postmasters(new_dir)}
        assert pid == postmaster_pid(new_dir)
        if turn % 2:
            kill_postmaster(new_dir)
        else:
            server.stop(new_dir)


def postmasters(data_dir: Path) -> list[psutil.Process]:
    processes = psutil.process_iter(["pid", "name", "cwd", "ppid"])
    inside = [
        found
        for found in processes
        if found.info["name"] == "postgres" and found.info["cwd"] == str(data_dir)
    ]
    pids = {found.info["pid"] for found in inside}
    return [found for found in inside if found.info["ppid"] not in pids]


@pytest.mark.parametrize("folder", ["far/" * 30, "it's $HOME, here"], ids=["too long", "odd characters"])
def test_a_path_that_cannot_be_an_address_gets_a_short_private_socket_folder(tmp_path: Path, folder: str):
    data_dir = tmp_path / folder / "pg"
    started = server.start(data_dir)
    try:
        assert started.socket_dir.parent == Path(tempfile.gettempdir()).resolve()
        assert stat.S_IMODE(started.socket_dir.stat().st_mode) == 0o700
        assert ask(started, "show data_directory") == str(data_dir)
        assert server.start(data_dir) == started
    finally:
        server.stop(data_dir, "immediate")
        started.socket_dir.rmdir()


def test_a_socket_folder_somebody_else_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Short, as the path of a socket has to be, wherever the folders of tests are.
    with tempfile.TemporaryDirectory(prefix="s-") as short:
        Path(short).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", short)
        data_dir = tmp_path / ("far/" * 30) / "pg"
        server.start(data_dir)
        server.stop(data_dir)
        (socket_dir,) = Path(short).glob("revenue-os-*")
        socket_dir.rmdir()
        socket_dir.symlink_to(tmp_path)
        with pytest.raises(server.ServerError, match="not a private folder"):
            server.start(data_dir)


def test_data_of_another_major_version_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "pg").mkdir()
    (tmp_path / "pg" / "PG_VERSION").write_text("15\n", encoding="utf-8")
    with pytest.raises(
        server.ServerError, match=r"made by PostgreSQL 15 and this program brings 18: dump it"
    ):
        server.start(tmp_path / "pg")
    assert [path.name for path in (tmp_path / "pg").iterdir()] == ["PG_VERSION"]


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "letters.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(server.ServerError, match="is not empty and holds no PostgreSQL data"):
        server.start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]


def test_a_place_that_cannot_hold_a_folder_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(server.ServerError, match=r"cannot be written .*make it writable or choose another"):
        server.start(tmp_path / "file" / "pg")


def test_a_server_that_cannot_start_says_why_from_its_log(kept_dir: Path):
    server.start(kept_dir)
    server.stop(kept_dir)
    configured = kept_dir / "postgresql.auto.conf"
    before = configured.read_text(encoding="utf-8")
    configured.write_text("shared_preload_libraries = 'no_such_library'\n", encoding="utf-8")
    try:
        with pytest.raises(
            server.ServerError, match=r"FATAL: .*no_such_library.*the whole log is .*server\.log"
        ):
            server.start(kept_dir)
    finally:
        configured.write_text(before, encoding="utf-8")


def test_a_disk_that_fills_up_while_the_data_directory_is_made_is_named(tmp_path: Path):
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); {START}"
    done = subprocess.run(
        [sys.executable, "-c", limited, str(tmp_path / "pg")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ServerError: The data directory" in done.stderr
    assert "could not be made" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["pg.lock"]


def test_a_database_is_made_once(running: server.Server):
    url = running.url("Made 'once'\"")
    assert address.ensure_database(url) is True
    assert address.ensure_database(url) is False


def test_two_who_make_the_same_database_at_once_both_succeed(running: server.Server):
    url = running.url("made_by_two")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: address.ensure_database(url), range(4)))
    assert sum(made) == 1


def test_a_database_that_another_makes_between_a_look_and_the_next_is_there(
    running: server.Server, monkeypatch: pytest.MonkeyPatch
):
    url, look = running.url("made_meanwhile"), address.connected

    @contextmanager
    def made_meanwhile(asked: str):
        monkeypatch.setattr(address, "connected", look)
        try:
            with look(asked) as connection:
                yield connection
        except address.DatabaseError:
            address.ensure_database(url)
            raise

    monkeypatch.setattr(address, "connected", made_meanwhile)
    assert address.ensure_database(url) is False


def test_a_database_that_is_absent_is_told_in_one_sentence(running: server.Server):
    with (
        pytest.raises(address.DatabaseError, match=r'database "absent" does not exist.*make the database'),
        address.connected(running.url("absent")),
    ):
        pass


def test_the_addresses_for_psycopg2_and_libpq_reach_the_same_database(running: server.Server):
    url = running.url("postgres")
    engine = sa.create_engine(address.sibling(url, "postgres", driver="psycopg2"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        by_psycopg2 = connection.scalar(sa.text("show data_directory"))
    by_psql = subprocess.run(
        [server.program("psql"), "-Atc", "show data_directory"],
        env=os.environ | address.libpq_environment(url),
        capture_output=True,
        text=True,
        check=True,
    )
    assert by_psycopg2 == by_psql.stdout.strip() == str(running.data_dir)


def revenue_os(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return subprocess.run(
        [sys.executable, "-c", "from dagster_project.cli import app; app()", *arguments],
        cwd=ROOT,
        env=inherited | {"REVENUE_OS_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_a_refusal_as_one_sentence_and_exits_with_1(tmp_path: Path):
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "letters.txt").touch()
    done = revenue_os(tmp_path, "db", "start")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: The folder ")
    assert done.stderr.count("\n") == 1


def test_the_command_leaves_a_configured_server_alone(tmp_path: Path):
    done = revenue_os(tmp_path, "db", "stop", DATABASE_URL="postgresql://ada:secret@localhost:1/revenue")
    assert done.returncode == 1
    assert "DATABASE_URL is set" in done.stderr


def test_the_command_does_not_show_the_password_of_a_database_it_cannot_reach(tmp_path: Path):
    done = revenue_os(tmp_path, "db", "status", DATABASE_URL="postgresql://ada:secret@localhost:1/revenue")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_status_does_not_start_a_stopped_server(tmp_path: Path):
    done = revenue_os(tmp_path, "db", "status", "--json")
    assert done.returncode == 0
    assert '"state": "stopped"' in done.stdout
    assert list(tmp_path.iterdir()) == []
