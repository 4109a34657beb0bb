"""A report has the same files with the same bytes each time."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import evidence as made_up
import pytest
import reports
from components import compile_latex

EVERY = pytest.mark.parametrize("case", list(reports.CASES))


def test_the_files_of_a_report_are_these(once: reports.Once) -> None:
    folder = reports.written(once, "typical")

    assert sorted(path.name for path in folder.iterdir()) == [
        *("comparison.json", "figures", "index.html", "methods.md", "predictions.npz"),
        *("references.bib", "runs.json", "table.tex"),
    ]
    comparison = made_up.comparison_of(replace(reports.typical(), excluded={"failed": 1}))
    assert json.loads((folder / "comparison.json").read_text()) == comparison.to_dict()


@EVERY
def test_no_file_names_a_folder_of_this_machine(once: reports.Once, case: str) -> None:
    for path in reports.written(once, case).rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for place in ("/home/me", str(Path.cwd()), str(Path.home()), sys.prefix):
                assert place.encode() not in data or place == "/", path


@pytest.mark.parametrize("case", ["two_studies", "nothing_kept"])
def test_the_table_compiles(once: reports.Once, case: str, tmp_path: Path) -> None:
    table = (reports.written(once, case) / "table.tex").read_text()
    compile_latex([table], tmp_path)


def test_the_same_records_give_the_same_bytes(once: reports.Once) -> None:
    folder = reports.written(once, "diverging")

    for name, data in reports.build("diverging").items():
        assert (folder / name).read_bytes() == data, name


@pytest.mark.slow
def test_another_process_gives_the_same_bytes(once: reports.Once, tmp_path: Path) -> None:
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); import reports; from pathlib import Path;"
        f" reports.write(reports.build('diverging'), Path({str(tmp_path)!r}))"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONHASHSEED": "4", "TZ": "Asia/Tokyo"}
    )  # fmt: skip

    known = reports.written(once, "diverging")
    files = [path.relative_to(known) for path in known.rglob("*") if path.is_file()]
    assert [name for name in files if (known / name).read_bytes() != (tmp_path / name).read_bytes()] == []
