from pathlib import Path

import pytest

from services import program


def test_a_digest_follows_the_files_and_ignores_compiled_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "ROOT", tmp_path)
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "pt-BR.json").write_text("{}")

    def digest() -> bytes:
        program.program_digest.cache_clear()
        return program.program_digest(("words/*",), ("numpy",))

    before = digest()
    (tmp_path / "words" / "__pycache__").mkdir()
    compiled = digest()
    (tmp_path / "words" / "pt-BR.json").write_text('{"a": "b"}')

    assert compiled == before
    assert digest() != before
    program.program_digest.cache_clear()
