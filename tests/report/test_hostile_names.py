"""Names from stores and archives are shown as they are, and are instructions to nobody."""

import csv
import io
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import pytest
from components import compile_latex
from hostile import NAMES, hostile
from markdown_it import MarkdownIt

from optstudy.comparison.table import compare
from optstudy.records.printable import printable
from optstudy.report.bundle import build_report
from optstudy.report.escape import csv_cell, latex_text, markdown_code, markdown_paragraph, markdown_text
from optstudy.report.page import render_page
from optstudy.report.tables.formats import Metric, render

METRICS: tuple[Metric, ...] = ("accuracy", "cost", "geometry", "classes", "networks", "tuning")
name_of = pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))


def controls(text: str) -> set[str]:
    return {letter for letter in text if unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp")} - {"\n"}


@name_of
def test_control_characters_are_shown_escaped(name: str) -> None:
    assert controls(printable(name)) == set()
    assert "\n" not in printable(name)
    assert printable(printable(name)) == printable(name)


def test_letters_of_every_script_are_left_alone() -> None:
    text = "é Ω 猫 नमस्ते‌ک 👩‍💻 ± 95 %"

    assert printable(text) == text
    assert printable("a\x1b[1m\nb\u202e\ud800") == r"a\x1b[1m\nb\u202e\ud800"
    assert printable("a\nb\t", keep="\n") == "a\nb\\t"


@name_of
def test_markdown_has_no_link_tag_code_or_cell_of_a_name(name: str) -> None:
    markdown = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    comparison = compare(hostile(name))

    for metric in METRICS:
        text = render(comparison, "markdown", metric)
        kinds = set()
        for token in markdown.parse(text):
            kinds |= {token.type, *(child.type for child in token.children or ())}
        assert controls(text) == set()
        assert kinds <= {
            *(
                f"{part}_{side}"
                for part in ("table", "thead", "tbody", "tr", "th", "td")
                for side in ("open", "close")
            ),
            *("paragraph_open", "paragraph_close", "inline", "text", "text_special", "softbreak"),
        }, text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert (
            len({len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) for row in rows[: 2 + len(comparison.rows)]})
            == 1
        )


@name_of
def test_no_cell_of_csv_is_a_formula(name: str) -> None:
    comparison = compare(hostile(name))

    for metric in METRICS:
        text = render(comparison, "csv", metric)
        assert controls(text) == set()
        [header, *rows] = csv.reader(io.StringIO(text))
        for row in rows:
            assert len(row) == len(header)
            for cell in row:
                assert not cell.lstrip().startswith(("=", "+", "@")) or re.fullmatch(r"\+?[\d.]+", cell)
                assert not cell.lstrip().startswith("-") or cell == "--" or re.fullmatch(r"-[\d.]+.*", cell)


@pytest.mark.parametrize("number", ["-0.5", "+0.25", "-1e-05", "+1,000", "-0.1 %", "-.5", "--"])
def test_a_number_in_csv_stays_a_number(number: str) -> None:
    assert csv_cell(number) == number


@pytest.mark.parametrize(
    "formula", ["=1", "+1+1", "-1+1", "@A1", "-", "+cmd|' /C calc'!A0", " =1", "-0.5 + A1"]
)
def test_a_formula_in_csv_begins_with_an_apostrophe(formula: str) -> None:
    assert csv_cell(formula) == f"'{formula}"


def test_plain_names_stay_as_they_are_in_markdown_and_code() -> None:
    for name in ("weight_decay", "SGD (paper)", "p < 0.001", "> 99 %", "net.py:make", "1 + 1", "a -- b"):
        assert markdown_text(name) == name
    assert markdown_code("weight_decay") == "`weight_decay`"
    assert markdown_code("a`b|c") == r"a\`b\|c"
    assert markdown_paragraph("We [x](y) <b> used SGD [@sgd].") == r"We \[x\](y) &lt;b&gt; used SGD [@sgd]."


def test_latex_keeps_signs_that_end_rows_or_begin_commands() -> None:
    assert latex_text("[1ex] * a|b \\x \x1b") == r"{[}1ex{]} {*} a$|$b \textbackslash{}x \textbackslash{}x1b"


@pytest.mark.parametrize("names", [NAMES[:8], NAMES[8:16], NAMES[16:]], ids=["0-7", "8-15", "16-"])
def test_latex_compiles_whatever_the_names_are(names: tuple[str, ...], tmp_path: Path) -> None:
    comparison = compare(hostile(*names))

    compile_latex([render(comparison, "latex", metric) for metric in METRICS], tmp_path)


class Tags(HTMLParser):
    """The tags of a page, and the addresses and handlers in their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {attribute for attribute, _ in attrs}
        self.addresses |= {str(value) for attribute, value in attrs if attribute in ("href", "src")}


@name_of
def test_a_page_shows_names_as_text(name: str) -> None:
    evidence = hostile(name)
    picture = {"title": name, "caption": name, "source": "data:image/png;base64,", "width": 1, "height": 1}

    page = render_page(compare(evidence), evidence, [picture], methods=name, bibtex=name)

    tags = Tags(page)
    assert controls(page) == set()
    assert tags.tags.isdisjoint({"script", "b"})
    assert not any(attribute.startswith("on") for attribute in tags.attributes)
    assert {address[:5] for address in tags.addresses if not address.startswith("#")} == {"data:"}


@pytest.mark.slow
def test_figures_are_drawn_whatever_the_names_are() -> None:
    files = build_report(hostile("$\\frac$", "\x1b[31mtwo\r\nlines\u202e", "<b>$x_" + "a" * 300))

    assert all(re.fullmatch(r"[A-Za-z0-9._/-]+", path) for path in files)
    assert controls(files["table.tex"].decode()) == set()
    assert controls(files["methods.md"].decode()) == set()
