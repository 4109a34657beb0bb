"""The gallery has a figure for everything that was recorded, each with a file name of its own."""

import evidence as made_up
import reports

from optstudy.comparison.table import Comparison
from optstudy.records.evidence import Evidence
from optstudy.report.gallery import Exhibit, file_names, gallery


def test_each_figure_has_a_file_name_of_its_own() -> None:
    def exhibit(name: str) -> Exhibit:
        return Exhibit(name, "", "", None)  # type: ignore[arg-type]  # not drawn

    names = file_names([exhibit(name) for name in ("a-b", "a-b", "a/b", "a$b", "a-b-2", "a-b")])

    assert names == ["a-b", "a-b-2", "a_b", "a_b-2", "a-b-2-2", "a-b-3"]


def test_only_recorded_results_are_drawn() -> None:
    found = reports.nothing_kept()

    assert [one.name for one in gallery(made_up.comparison_of(found), found)] == ["accuracies"]


def test_an_empty_comparison_has_no_exhibits() -> None:
    assert list(gallery(Comparison((), (), {}), Evidence((), ()))) == []
