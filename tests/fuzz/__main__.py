"""`make fuzz`: Atheris, where it is installed, on each target in turn; then Hypothesis with new seeds for as long again as one target got.

An input that breaks the invariant stays in the corpus, as `crash-…`: the suite fails with it until it is mended. Interesting ones are
kept below `build/fuzz`, for the next run.
"""

import argparse
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.seeds import CORPUS
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
_LONGEST_INPUT = 65_536
_SLOW_INPUT = 5
"""Seconds after which an input counts as hanging; instrumented code is some ten times slower."""
_MEMORY_MB = 1024


def main() -> None:
    """Exit code 1 when something was found."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--minutes", type=float, default=10.0)
    minutes = parser.parse_args().minutes
    share = minutes * 60 / (len(TARGETS) + 1)
    found = False
    if find_spec("atheris") is None:
        print("Atheris has no wheel for this machine: Hypothesis alone")
        share = minutes * 60
    else:
        found = bool([target for target in TARGETS if _by_coverage(target, share)])
    found |= _by_properties(share)
    sys.exit(found)


def _by_coverage(target: str, seconds: float) -> bool:
    kept = ROOT / "build/fuzz" / target
    kept.mkdir(parents=True, exist_ok=True)
    print(f"{target}: Atheris, {seconds:.0f} s", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.engine", target, str(kept), str(CORPUS / target),
         f"-max_total_time={seconds:.0f}", f"-max_len={_LONGEST_INPUT}", f"-timeout={_SLOW_INPUT}", f"-rss_limit_mb={_MEMORY_MB}",
         f"-artifact_prefix={CORPUS / target}/", "-print_final_stats=1", "-verbosity=0"],
        cwd=ROOT, check=False,
    )  # fmt: skip
    return done.returncode != 0


def _by_properties(seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/fuzz", "--hypothesis-seed", str(time.time_ns())]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            return True
    return False


if __name__ == "__main__":
    main()
