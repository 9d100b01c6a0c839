"""Sentences of the command line: whole in a pipe, broken between words in a terminal."""

import pytest

from cli.output import echo

SENTENCE = "error: universe_not_found: no universe 'nope': expected a folder of TICKER.csv files, see universe download"


@pytest.mark.parametrize("stderr", [True, False])
def test_a_sentence_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str], *, stderr: bool) -> None:
    echo(SENTENCE, stderr=stderr)

    printed = capsys.readouterr()
    assert (printed.err if stderr else printed.out) == f"{SENTENCE}\n"


def test_a_terminal_breaks_no_word(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a terminal
    monkeypatch.setenv("COLUMNS", "80")

    echo(SENTENCE)

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert " ".join(line.strip() for line in lines) == SENTENCE
