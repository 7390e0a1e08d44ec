"""What an analyst sees: the real web server over a real database, read by a real browser."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from dagster_project.lib import dbt
from dagster_project.settings import REPOSITORY
from models import address, server

START_SECONDS = 60


@pytest.fixture
def ui(postgres: server.Server, database_url: str, tmp_path: Path) -> Iterator[str]:
    """The address of a web server with an instance, a code server and databases of its own."""
    dbt.project()  # writes dbt's manifest, which a deployment ships
    shutil.copy(REPOSITORY / "deploy" / "dagster.yaml", tmp_path)
    address.ensure_database(postgres.url("ui"))
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(tmp_path),
        "DAGSTER_PG_URL": postgres.url("ui", driver="psycopg2"),
        "DATABASE_URL": database_url,
    }
    port = _free_port()
    program = Path(sys.executable).with_name("dagster-webserver")
    command = [str(program), "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "webserver.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _await_answer(process, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()  # its code server goes with it
            process.wait(30)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def _await_answer(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/server_info")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    pytest.fail(f"the web server gave no answer within {START_SECONDS} s (exit code {process.poll()})")


@pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="there is no Chromium here (apt-get install chromium chromium-driver)",
)
def test_the_lineage_from_a_csv_file_to_the_snapshots_is_visible(ui: str, tmp_path: Path) -> None:
    script = REPOSITORY / "scripts" / "screenshots.py"
    command = [sys.executable, str(script), "lineage", "--url", ui, "--into", str(tmp_path)]
    taken = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert taken.returncode == 0, taken.stderr + (tmp_path / "webserver.log").read_text()[-2000:]
    assert (tmp_path / "lineage.png").read_bytes().startswith(b"\x89PNG")
