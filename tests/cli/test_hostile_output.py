"""Names from stores and the command line reach the terminal as text: no markup, no escape sequence."""

import io
import unicodedata

import pytest
from commands import Run
from hostile import NAMES
from rich.console import Console

from optstudy.cli import progress
from optstudy.cli.echo import echo
from optstudy.cli.output import print_table
from optstudy.report.tables.table import text_column
from optstudy.study.events import Notice, RunEnded, WorkDone

name_of = pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))


def controls(text: str) -> set[str]:
    return {letter for letter in text if unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp")} - {"\n"}


@name_of
def test_tables_and_lines_show_names_as_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table([text_column("Run", [name])])
    echo(f"note: {name}", err=True)

    table, line = capsys.readouterr()
    assert controls(table) == controls(line) == set()
    assert line.count("\n") == 1
    if name.isprintable() and len(name) < 100:
        assert name in table
        assert line == f"note: {name}\n"


@name_of
def test_progress_shows_names_as_text(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(
        progress,
        "Console",
        lambda **_: Console(file=shown, force_terminal=True, color_system=None, width=400),
    )

    progress.watch([WorkDone(name, 1.0), Notice(name), RunEnded(name, name, 0.5, 0.5)])

    lines = [line for line in shown.getvalue().splitlines() if "note: " in line]
    assert len(lines) == 1
    assert "\x1b[31m" not in shown.getvalue()
    assert controls(shown.getvalue()) <= {"\x1b", "\r"}  # of the bar itself
    assert capsys.readouterr() == ("", "")


@name_of
def test_an_error_shows_a_wrong_name_in_one_line(name: str, run: Run) -> None:
    ended = run("study", f"--preset={name}", "--dry-run")

    assert ended.status == 2
    assert controls(ended.line) == set()
