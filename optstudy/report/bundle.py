"""Build the files of a report by path: page, figures, `table.tex`, `references.bib`, `runs.json` and others."""

import json

from optstudy.comparison.table import compare
from optstudy.records.evidence import Evidence
from optstudy.report import figures
from optstudy.report.archive import archive
from optstudy.report.citation import bibtex
from optstudy.report.escape import markdown_paragraph
from optstudy.report.gallery import file_names, gallery
from optstudy.report.page import picture, render_page
from optstudy.report.sentences import methods
from optstudy.report.tables.formats import render

PAGE = "index.html"


def build_report(evidence: Evidence) -> dict[str, bytes]:
    """Build all files of a report.

    Args:
        evidence: The evidence of some studies, with at least one finished run.

    Returns:
        Contents by path: ``index.html``, ``figures/`` as PNG and PDF, ``table.tex``, ``methods.md``,
        ``references.bib``, ``comparison.json``, ``runs.json`` and ``predictions.npz``. The same evidence gives the
        same bytes.
    """
    comparison = compare(evidence)
    studies = dict.fromkeys(row.study for row in comparison.rows)
    paragraphs = "\n\n".join(methods(comparison, evidence, study) for study in studies)
    markdown_paragraphs = "\n\n".join(map(markdown_paragraph, paragraphs.split("\n\n")))
    citations = bibtex(paragraphs, [look.cite for look in evidence.looks.values()])
    exhibits = list(gallery(comparison, evidence))
    names = file_names(exhibits)
    images = {name: figures.png(exhibit.figure) for name, exhibit in zip(names, exhibits, strict=True)}
    pictures = [picture(exhibit, data) for exhibit, data in zip(exhibits, images.values(), strict=True)]
    page = render_page(comparison, evidence, pictures, methods=paragraphs, bibtex=citations)
    return {
        PAGE: page.encode(),
        **{f"figures/{name}.png": data for name, data in images.items()},
        **{
            f"figures/{name}.pdf": figures.pdf(exhibit.figure)
            for name, exhibit in zip(names, exhibits, strict=True)
        },
        "table.tex": render(comparison, "latex").encode(),
        "methods.md": (markdown_paragraphs + "\n").encode(),
        "references.bib": citations.encode(),
        "comparison.json": (json.dumps(comparison.to_dict(), indent=1) + "\n").encode(),
        **archive(evidence),
    }
