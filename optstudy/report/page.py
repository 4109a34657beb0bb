"""Render the report as one self-contained HTML page, from the template page.html."""

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from optstudy.comparison.table import Comparison
from optstudy.records.evidence import Evidence
from optstudy.records.look import Looks
from optstudy.records.printable import printable
from optstudy.records.search import SearchResult
from optstudy.report.commands import study_commands
from optstudy.report.gallery import Exhibit
from optstudy.report.sentences import headline, study_setup, verdict_sentence
from optstudy.report.tables.formats import Metric, build_tables
from optstudy.report.tables.sources import version_labels
from optstudy.report.tables.tuning import value_label


def render_page(
    comparison: Comparison,
    evidence: Evidence,
    pictures: Sequence[Mapping[str, Any]],
    *,
    methods: str,
    bibtex: str,
) -> str:
    """Render the page; the same evidence gives the same bytes."""
    environment = Environment(
        loader=PackageLoader("optstudy.report", "."),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    studies = list(dict.fromkeys(row.study for row in comparison.rows))
    commands = {name: study_commands(evidence, name) for name in studies}
    metrics: list[tuple[str, Metric]] = [
        ("Cost", "cost"),
        ("Tuning", "tuning"),
        ("Geometry", "geometry"),
        ("Classes", "classes"),
        ("Networks of the same seed", "networks"),
    ]
    return environment.get_template("page.html").render(
        title=_title(comparison),
        studies=[_study_section(comparison, evidence, name) for name in studies],
        tables=build_tables(comparison),
        other_tables=[
            (title, table)
            for title, metric in metrics
            for table in build_tables(comparison, metric)
            if table.rows
        ],
        pictures=pictures,
        spaces=[
            _space_section(search, evidence.looks, several=len(studies) > 1) for search in evidence.searches
        ],
        other_configs=_other_configs(evidence, several=len(studies) > 1),
        provenance=[
            *_provenance(evidence),
            *((f"{file} of {study}", label) for study, file, label in version_labels(comparison.sources)),
        ],
        finished=_finished_on(evidence),
        commands=list(filter(None, commands.values())),
        unrecorded=[name for name in studies if not commands[name] and not _lost(evidence, name)],
        lost_files=evidence.lost_files,
        methods=methods,
        bibtex=bibtex,
    )


def _shown(value: Any) -> Any:
    """Escape control characters in a text; `Markup` is what a macro has written."""
    return printable(value, keep="\n") if type(value) is str else value


def _lost(evidence: Evidence, study: str) -> bool:
    return any(final.lost for final in evidence.runs if final.run.study == study)


def _title(comparison: Comparison) -> str:
    names = list(dict.fromkeys(comparison.looks[row.optimizer].label for row in comparison.rows))
    if not names:
        return "No finished runs"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _study_section(comparison: Comparison, evidence: Evidence, name: str) -> dict[str, Any]:
    rows = [row for row in comparison.rows if row.study == name]
    pairs = [pair for pair in comparison.pairs if pair.study == name]
    margin = next((final.run.margin for final in evidence.runs if final.run.study == name), 0.0)
    return {
        "name": name,
        "setup": study_setup(evidence, name),
        "headline": headline(rows, pairs, comparison.looks),
        "verdicts": [verdict_sentence(pair, margin, comparison.looks) for pair in pairs],
    }


def picture(exhibit: Exhibit, data: bytes) -> dict[str, Any]:
    """Return the template variables of a figure, with its PNG embedded."""
    width, height = (round(float(side) * 132) for side in exhibit.figure.get_size_inches())
    return {
        "title": exhibit.title,
        "caption": exhibit.caption,
        "source": "data:image/png;base64," + base64.b64encode(data).decode(),
        "width": width,  # CSS pixels
        "height": height,
    }


def _space_section(search: SearchResult, looks: Looks, *, several: bool) -> dict[str, Any]:
    best, default = search.best, search.space.config("default")
    paper = {} if search.space.paper is None else search.space.config("paper")
    rows = [
        [
            item.name,
            value_label(best.params[item.name]) if best and item.name in best.params else "--",
            str(item),
            value_label(default[item.name]),
            value_label(paper[item.name]) if item.name in paper else "--",
            item.why,
        ]
        for item in search.space.search
    ]
    name = looks[search.optimizer].label
    fixed = ", ".join(f"{key} = {value_label(value)}" for key, value in search.space.fixed.items())
    return {
        "name": f"{search.study}: {name}" if several else name,
        "class": search.space.optimizer,
        "rows": rows,
        "fixed": fixed,
    }


def _other_configs(evidence: Evidence, *, several: bool) -> list[tuple[str, str]]:
    """Return the hyperparameters of each row that were not selected by a search of its study."""
    searched = {(search.study, search.optimizer) for search in evidence.searches}
    configs = []
    for key, row in evidence.rows().items():
        if key.config != "best" or (key.study, key.optimizer) not in searched:
            values = ", ".join(f"{name} {value}" for name, value in row[0].run.params.items())
            configs.append((f"{key.study}: " * several + evidence.looks.row_label(key), values or "none"))
    return configs


def _provenance(evidence: Evidence) -> list[tuple[str, str]]:
    """Return the provenance of the runs; values that differ are joined by commas."""
    entries: dict[str, dict[str, None]] = {}
    for final in evidence.runs:
        for name, value in final.run.provenance.details.items():
            entries.setdefault(name, {})[value] = None
    return [(name, ", ".join(values)) for name, values in entries.items()]


def _finished_on(evidence: Evidence) -> str:
    ends = [final.run.finished_at for final in evidence.runs if final.run.finished_at is not None]
    return datetime.fromtimestamp(max(ends), UTC).strftime("%d %B %Y").lstrip("0") if ends else ""
