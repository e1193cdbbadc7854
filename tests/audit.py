"""`make audit`: the locked dependencies, without network: each by its hash, each under a licence that we may ship.

What it can't say is whether one has a known vulnerability: that needs a database from outside (`pip-audit` where there is network, on
`requirements/demo.txt`, or a scanner on the SBOM of `make sbom`).
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)", re.MULTILINE)
_HASHED = re.compile(r"--hash=sha256:[0-9a-f]{64}")
ALLOWED = (
    "mit",
    "apache",
    "bsd",
    "isc",
    "psf",
    "python software foundation",
    "mozilla",
    "mpl",
    "lgpl",
    "lesser general",
    "unlicense",
    "postgresql",
)
"""Words of licences that a worker may be shipped with; psycopg is under the LGPL, as a library beside ours."""


def unhashed(text: str) -> list[str]:
    """Pins of a lock without a hash, and lines that are no pin."""
    logical = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [line.split()[0] for line in logical if not _PIN.match(line) or not _HASHED.search(line)]


def licence(name: str) -> str | None:
    """What the installed package says of itself; None where it is not installed (for another system)."""
    try:
        about = metadata(name)
    except PackageNotFoundError:
        return None
    classifiers = [each for each in about.get_all("Classifier") or () if each.startswith("License ::")]
    return " ".join([about.get("License-Expression") or "", (about.get("License") or "")[:80], *classifiers]).strip().lower()


def refused(names: list[str]) -> list[str]:
    """Packages whose licence is none of the allowed, or unknown."""
    found = {name: licence(name) for name in names}
    return [
        f"{name}: {text or 'no licence'}" for name, text in found.items() if text is not None and not any(word in text for word in ALLOWED)
    ]


def main() -> None:
    """Exit code 1 when something is wrong."""
    wrong = [
        f"{path.name}: {pin} has no hash" for path in sorted((ROOT / "requirements").glob("*.txt")) for pin in unhashed(path.read_text())
    ]
    shipped = [name for name, _ in _PIN.findall((ROOT / "requirements/demo.txt").read_text())]
    wrong += [f"licence of {each}" for each in refused(shipped)]
    for each in wrong:
        print(each)
    looked = sum(licence(name) is not None for name in shipped)
    print(f"{len(shipped)} packages are shipped, the licences of {looked} were looked at; known vulnerabilities were NOT: no database here")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
