"""`python -m tests.bed.former run`: a worker of the version before this one.

It is this version's code, which takes the schema of the version before for its own: true as long as the statements of a write are the
same. What that version did not do is left out.
"""

from pathlib import Path

from consumer.postgres import migrate

REVISION = sorted(each.name[:4] for each in Path(migrate.__file__).with_name("migrations").glob("versions/*.py"))[-2]
"""The schema of the version before."""

if __name__ == "__main__":
    migrate.HEAD_REVISION = REVISION
    from consumer.cli import run  # only now, for commands take the revision over when they are imported
    from consumer.cli.main import main

    run.tell_retention = lambda *_: None
    main()
