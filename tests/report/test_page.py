"""The page shows every sentence, table and figure of a report, escaped and described."""

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import evidence as made_up
import pytest
import reports
from finals import LOOKS

from optstudy.records.evidence import Evidence
from optstudy.report.bundle import build_report
from optstudy.report.commands import study_commands
from optstudy.report.sentences import (
    methods,
    study_setup,
    verdict_sentence,
)
from optstudy.report.tables.formats import build_tables
from optstudy.report.tables.tuning import value_label


class Text(HTMLParser):
    """What a reader sees, the pictures as they are described, and the tags with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.cells: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self._inside: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag in ("td", "th"):
            self.cells.append("")
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._inside:
            return
        self.words.append(data)
        if "td" in self._inside or "th" in self._inside:
            self.cells[-1] += data


def read(once: reports.Once, case: str) -> tuple[Path, Text]:
    folder = reports.written(once, case)
    return folder, Text((folder / "index.html").read_text())


def flat(text: str) -> str:
    return " ".join(text.split())


EVERY = pytest.mark.parametrize("case", list(reports.CASES))


@EVERY
def test_the_page_has_every_sentence_and_every_cell(once: reports.Once, case: str) -> None:
    found = reports.CASES[case]()
    comparison = made_up.comparison_of(replace(found, excluded={"failed": 1}))
    folder, page = read(once, case)

    for pair in comparison.pairs:
        assert flat(verdict_sentence(pair, 0.001, LOOKS)) in page.text
    for study in {row.study for row in comparison.rows}:
        assert flat(" ".join(study_setup(found, study))) in page.text
        assert flat(methods(comparison, found, study)) in page.text
    known = set(page.cells)
    for metric in ("accuracy", "cost", "tuning", "geometry", "classes", "networks"):
        for table in build_tables(comparison, metric):
            if table.rows:
                assert {cell for row in table.rows for cell in row} <= known
                assert flat(table.caption) in page.text
    assert flat((folder / "references.bib").read_text()) in page.text


@EVERY
def test_each_figure_is_shown_described_and_written_as_pdf_and_png(once: reports.Once, case: str) -> None:
    folder, page = read(once, case)

    names = sorted(path.stem for path in (folder / "figures").glob("*.pdf"))

    assert [path.stem for path in sorted((folder / "figures").glob("*.png"))] == names
    assert len(page.images) == len(names) > 0
    assert all(image["alt"] and len(image["alt"]) > 40 for image in page.images)
    assert len({image["alt"] for image in page.images}) == len(names)
    assert all((image["src"] or "").startswith("data:image/png;base64,") for image in page.images)
    for name in names:
        data = (folder / "figures" / f"{name}.pdf").read_bytes()
        assert data.startswith(b"%PDF")
        assert len(re.findall(rb"/Type /Page\b", data)) == 1


@EVERY
def test_the_page_has_no_number_that_is_none(once: reports.Once, case: str) -> None:
    folder, page = read(once, case)

    for text in (page.text, *(str(image["alt"]) for image in page.images)):
        assert not re.search(r"\b(nan|inf|None|undefined)\b|Traceback", text)
    for name in ("table.tex", "methods.md"):
        assert not re.search(r"\b(nan|inf|None)\b", (folder / name).read_text())


@EVERY
def test_names_are_escaped_and_the_page_has_no_scripts(once: reports.Once, case: str) -> None:
    _, page = read(once, case)

    assert not page.tags & {"script", "iframe", "object", "b", "only", "net", "lr", "form"}


def test_names_with_any_letter_are_shown_as_they_are(once: reports.Once) -> None:
    folder, page = read(once, "two_studies")

    for name in (*reports.SPECIAL, made_up.LONG, "<b>bold</b>", "one & <only>", "my <net>.py:make"):
        assert name in page.text
    assert all(re.fullmatch(r"[\w.-]+", path.name) for path in (folder / "figures").iterdir())


@pytest.mark.parametrize("case", ["typical", "two_studies"])
def test_the_chosen_configuration_is_next_to_its_range(once: reports.Once, case: str) -> None:
    _, page = read(once, case)

    for one in reports.CASES[case]().searches:
        assert one.best is not None
        assert one.space.optimizer in page.text
        for item in one.space.search:
            line = [item.name, value_label(one.best.params[item.name]), str(item)]
            assert any(page.cells[at : at + 3] == line for at in range(len(page.cells)))
        assert "fixed: eps = 1e-08" in page.text


@pytest.mark.parametrize("case", ["typical", "two_studies", "alone"])
def test_versions_and_the_command_are_on_the_page(once: reports.Once, case: str) -> None:
    _, page = read(once, case)
    found = reports.CASES[case]()
    studies = list(dict.fromkeys(one.run.study for one in found.runs))

    for name, value in reports.FACTS.items():
        assert name in page.cells
        assert value in page.cells
    for study in studies:
        assert flat(study_commands(found, study)) in page.text
    again = "".join(f" --study {study}" for study in studies)
    assert f"optstudy report{again} --output report" in page.text
    assert "the last run ended on 21 September 2026" in page.text


def test_the_page_states_that_no_specification_was_recorded(once: reports.Once) -> None:
    _, page = read(once, "nothing_kept")

    assert study_commands(reports.nothing_kept(), "quick") == ""
    assert (
        "These runs were made by a version that did not record the specification of their study" in page.text
    )
    assert "Given configurations" in page.text


def test_a_failed_search_has_no_chosen_values() -> None:
    found = reports.made_up(("sgd", "adam"), 1)
    lost = replace(found.searches[0], best=None, trials=())
    failed = Evidence(found.runs[1:], (lost, *found.searches[1:]), LOOKS)
    failed = reports.without_curvature(failed)

    page = Text(build_report(failed)["index.html"].decode())

    assert ["lr", "--"] in [page.cells[at : at + 2] for at in range(len(page.cells))]


def test_text_on_the_page_is_what_html_means_by_it() -> None:
    assert Text(f"<p>{html.escape('a<b>&c')}</p>").text == "a<b>&c"
