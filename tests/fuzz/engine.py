"""`python -m tests.fuzz.engine TARGET …`: Atheris on one target; what follows are libFuzzer's own arguments."""

import sys

import atheris

with atheris.instrument_imports(include=["consumer.core", "consumer.postgres.rows"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
