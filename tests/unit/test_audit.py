"""`make audit` and what it notices."""

import pytest

from tests import audit

LOCK = (audit.ROOT / "requirements/demo.txt").read_text()


def test_the_locks_are_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """Every pin with its hash, every licence allowed."""
    with pytest.raises(SystemExit) as caught:
        audit.main()
    said = capsys.readouterr().out
    assert caught.value.code == 0, said
    assert "NOT" in said


def test_what_it_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pin without a hash, a requirement without a version, another licence."""
    assert audit.unhashed("alembic==1.20.1\n") == ["alembic==1.20.1"]
    assert audit.unhashed("alembic>=1 --hash=sha256:" + "0" * 64) == ["alembic>=1"]
    assert audit.unhashed(LOCK) == []
    monkeypatch.setattr(audit, "licence", lambda _: "gpl-3.0-only")
    assert audit.refused(["alembic"]) == ["alembic: gpl-3.0-only"]
