"""A real PgBouncer (Debian's) in transaction mode, in front of the newest PostgreSQL."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.bed.kafka import free_port
from tests.bed.needs import install_in_ci, missing
from tests.bed.postgres import PostgresServer


def _program() -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    if shutil.which("pgbouncer", path=path) is None:
        install_in_ci("pgbouncer")
    program = shutil.which("pgbouncer", path=path)
    if program is None:
        missing("PgBouncer (Debian's package pgbouncer)")
    return program


@contextmanager
def _running(server: PostgresServer, folder: Path) -> Iterator[int]:
    port = free_port()
    (folder / "users").write_text('"postgres" ""\n')
    config = folder / "pgbouncer.ini"
    config.write_text(
        f"""
[databases]
* = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder / "users"}
pool_mode = transaction
default_pool_size = 5
"""
    )
    folder.chmod(0o755)
    # It refuses to be root.
    other_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"] if os.geteuid() == 0 else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*other_user, _program(), str(config)], stdout=log, stderr=log, cwd="/")
    try:
        deadline = time.monotonic() + 30
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def pgbouncer(postgres: PostgresServer) -> Iterator[int]:
    """Its port."""
    with tempfile.TemporaryDirectory(prefix="audit-pgbouncer-") as folder, _running(postgres, Path(folder)) as port:  # not in root's own
        yield port
