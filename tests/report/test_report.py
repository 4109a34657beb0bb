"""What a report says is what its records say: verdicts, tables, figures, and the command that repeats them."""

import dataclasses
import html
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Never

import evidence as made_up
import finals
import pytest
import reports
from finals import LOOKS, pair_of
from hypothesis import given
from hypothesis import strategies as st

from optstudy.cli.main import group
from optstudy.cli.options import Where
from optstudy.comparison.pairs import Pair
from optstudy.comparison.table import Comparison, Row
from optstudy.records.evidence import Evidence
from optstudy.records.search import SearchResult
from optstudy.report.bundle import build_report
from optstudy.report.citation import bibtex
from optstudy.report.commands import study_commands
from optstudy.report.gallery import Exhibit, file_names, gallery
from optstudy.report.sentences import (
    headline,
    methods,
    study_setup,
    training_sentence,
    tuning_sentence,
    verdict_sentence,
)
from optstudy.report.tables.formats import build_tables
from optstudy.report.tables.tuning import value_label
from optstudy.study.driver import Study
from optstudy.study.plans import final_plan, trial_plan
from optstudy.study.specification import Specification
from optstudy.study.tuning.flow import search_settings

PAIR: dict[str, Any] = {
    "a": "adam/best", "b": "sgd/paper", "difference": 0.00354, "low": 0.0001, "high": 0.00698, "p": 0.0041,
    "p_holm": 0.0123, "verdict": "better",
}  # fmt: skip
NAN = math.nan


# --- sentences


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            "Adam is better than SGD (paper) by 0.35 points of test accuracy (+0.01 to +0.70), p = 0.012.",
        ),
        (
            {"verdict": "worse", "difference": -0.00354, "low": -0.00698, "high": -0.0001},
            "SGD (paper) is better than Adam by 0.35 points of test accuracy (+0.01 to +0.70), p = 0.012.",
        ),
        (
            {"verdict": "equivalent", "difference": -0.0002, "low": -0.0006, "high": 0.0002, "p_holm": 0.4},
            "Adam and SGD (paper) are equivalent within 0.1 points: -0.02 points (-0.06 to +0.02).",
        ),
        (
            {"verdict": "no difference shown", "low": -0.001, "high": 0.00808, "p_holm": 1.0},
            "No difference between Adam and SGD (paper) is shown: +0.35 points (-0.10 to +0.81), p = 1.000.",
        ),
        (
            {"verdict": "too few seeds", "low": NAN, "high": NAN, "p": NAN, "p_holm": NAN, "seeds": 1},
            "Adam and SGD (paper) have one common seed, which supports no verdict.",
        ),
        (
            {"p_holm": 0.0000001},
            "Adam is better than SGD (paper) by 0.35 points of test accuracy (+0.01 to +0.70), p < 0.001.",
        ),
    ],
)
def test_a_verdict_is_said_with_its_numbers(changes: dict[str, Any], sentence: str) -> None:
    assert verdict_sentence(pair_of(**PAIR | changes), 0.001, LOOKS) == sentence


finite = st.floats(-1, 1)


@given(finite, finite, finite, st.floats(0, 1))
def test_worse_is_better_seen_from_the_other_side(gap: float, low: float, high: float, p: float) -> None:
    better = pair_of(**PAIR | {"difference": gap, "low": low, "high": high, "p_holm": p})
    turned = {"a": PAIR["b"], "b": PAIR["a"], "difference": -gap, "low": -high, "high": -low}
    worse = pair_of(**PAIR | turned | {"p_holm": p, "verdict": "worse"})

    assert verdict_sentence(better, 0.001, LOOKS) == verdict_sentence(worse, 0.001, LOOKS)


def rows(ranks: Sequence[str]) -> list[Row]:
    found = finals.comparison_of(*(finals.final_run(f"opt{place}") for place in range(len(ranks))))
    return [replace(row, rank=rank) for row, rank in zip(found.rows, ranks, strict=True)]


def judged(*verdicts: Any) -> list[Pair]:
    return [pair_of(**PAIR | {"verdict": verdict}) for verdict in verdicts]


OPEN = "no difference shown"


@pytest.mark.parametrize(
    ("ranks", "verdicts", "sentence"),
    [
        (["tie"], [], "There is one configuration, and nothing to compare."),
        (["2", "1"], ["worse"], "All pairs are decided, from the best: opt1, opt0."),
        (["2", "3", "1"], ["better"] * 3, "All pairs are decided, from the best: opt2, opt0, opt1."),
        (["tie", "tie"], [], "No pair is decided: these runs do not show which optimizer is better."),
        (
            ["tie", "tie"],
            ["equivalent"],
            "No pair is decided: these runs do not show which optimizer is better.",
        ),
        (
            ["tie", "tie", "3"],
            [OPEN, "better", "better"],
            "2 of 3 pairs are decided; a row with an undecided pair has no rank, and counts as tied.",
        ),
        (
            ["tie", "tie", "tie"],
            [OPEN, "better", "equivalent"],
            "1 of 3 pairs is decided; a row with an undecided pair has no rank, and counts as tied.",
        ),
        (  # each better than the next one, in a circle: decided, and no ranking
            ["2", "2", "2"],
            ["better", "worse", "better"],
            "3 of 3 pairs are decided; a row with an undecided pair has no rank, and counts as tied.",
        ),
    ],
)
def test_the_headline_ranks_only_where_every_rank_is_known(
    ranks: list[str], verdicts: list[str], sentence: str
) -> None:
    assert headline(rows(ranks), judged(*verdicts), LOOKS) == sentence


@given(
    st.lists(st.sampled_from(["tie", "1", "2", "3"]), min_size=2, max_size=4),
    st.lists(st.sampled_from(["better", "worse", "equivalent", OPEN]), max_size=6),
)
def test_no_headline_names_a_best_beside_a_tie(ranks: list[str], verdicts: list[str]) -> None:
    said = headline(rows(ranks), judged(*verdicts), LOOKS)

    assert ("from the best" in said) <= ("tie" not in ranks and len(set(ranks)) == len(ranks))


def search_with(trials: int = 20, finalists: int = 0, **settings: Any) -> SearchResult:
    made = reports.searched("sgd", reports.specification(finalists=max(1, finalists), **settings))
    return replace(made, trials=made.trials[:trials])


def test_one_of_everything_is_no_plural() -> None:
    tuned = tuning_sentence([search_with(1, tune_epochs=1, tune_size=1, validation=1)])
    trained = training_sentence(reports.made_up(("sgd",), 1, train_epochs=1).runs)

    assert tuned == (
        "Each optimizer was searched with 1 trial of 1 epoch (TPE, the median pruner), judged by the accuracy on 1"
        " training image held out for validation, and trained on 1 other."
    )
    assert trained.startswith(
        "Each configuration was trained for 1 epoch from 1 seed on all training images of mnist (lenet5,"
    )


def test_what_was_asked_is_said_with_the_numbers_of_the_study() -> None:
    tuned = tuning_sentence([search_with(12, sampler="qmc"), search_with(20, sampler="qmc")])
    again = tuning_sentence([search_with(finalists=3, finalist_seeds=2, tune_size=5000, objective="loss")])
    once = tuning_sentence([search_with(finalists=3, finalist_seeds=1)])

    assert "with 12 to 20 trials of 3 epochs (a Sobol sequence, the median pruner)" in tuned
    assert "finalists" not in tuned
    assert "judged by the loss on 10,000 training images held out for validation" in again
    assert "trained on 5,000 others" in again
    assert again.endswith(
        "The best 3 trials were trained again from 2 other seeds, and the one with the best mean of these was chosen."
    )
    assert once.endswith("from 1 other seed, and the one with the best score there was chosen.")


def test_nothing_is_said_of_training_where_no_plan_is_known() -> None:
    found = reports.nothing_kept()

    assert training_sentence(found.runs) == ""
    assert study_setup(found, "quick") == ["Compared: SGD, Adam."]


def test_methods_claim_no_more_than_was_done() -> None:
    single, plain = reports.alone(), reports.nothing_kept()
    whole = methods(made_up.comparison_of(reports.typical()), reports.typical(), "quick")
    alone = methods(made_up.comparison_of(single), single, "quick")

    assert whole.startswith(
        "We compared SGD [@sgd], AdaGrad [@adagrad], Adam [@adam], AdaHessian [@adahessian]"
        " with optstudy 0.1.0 [@optstudy]."
    )
    for said in ("Optuna [@optuna]", "from 10 seeds", "over 6 pairs", "inside 0.1 points", "on 100 fixed"):
        assert said in whole
    assert alone.startswith("We trained SGD [@sgd] with optstudy 0.1.0")
    for wrong in ("Optuna", "Student", "Holm", "Bonferroni"):
        assert wrong not in alone
    assert "Hessian" not in methods(made_up.comparison_of(plain), plain, "quick")


def test_all_that_is_cited_has_an_entry_and_nothing_else_has_one() -> None:
    found = reports.typical()
    text = methods(made_up.comparison_of(found), found, "quick")

    entries = re.findall(r"^@\w+\{([\w-]+),", bibtex(text), re.MULTILINE)

    assert entries == list(dict.fromkeys(re.findall(r"\[@([\w-]+)\]", text)))
    assert bibtex("by nobody [@unheard-of]") == ""


# --- the page


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
def test_each_exhibit_is_shown_described_and_kept_as_pdf_and_png(once: reports.Once, case: str) -> None:
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
def test_the_chosen_configuration_stands_beside_its_range(once: reports.Once, case: str) -> None:
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


def test_a_page_of_runs_that_recorded_no_specification_says_so(once: reports.Once) -> None:
    _, page = read(once, "nothing_kept")

    assert study_commands(reports.nothing_kept(), "quick") == ""
    assert "These runs come from a version that did not record the specification of their study" in page.text
    assert "Given configurations" in page.text


def test_a_failed_search_has_no_chosen_values() -> None:
    found = reports.made_up(("sgd", "adam"), 1)
    lost = replace(found.searches[0], best=None, trials=())
    failed = Evidence(found.runs[1:], (lost, *found.searches[1:]), LOOKS)
    failed = reports.without_curvature(failed)

    page = Text(build_report(failed)["index.html"].decode())

    assert ["lr", "--"] in [page.cells[at : at + 2] for at in range(len(page.cells))]


def test_each_figure_has_a_file_name_of_its_own() -> None:
    def exhibit(name: str) -> Exhibit:
        return Exhibit(name, "", "", None)  # type: ignore[arg-type]  # not drawn

    names = file_names([exhibit(name) for name in ("a-b", "a-b", "a/b", "a$b", "a-b-2", "a-b")])

    assert names == ["a-b", "a-b-2", "a_b", "a_b-2", "a-b-2-2", "a-b-3"]


def test_nothing_is_drawn_of_what_was_not_kept() -> None:
    found = reports.nothing_kept()

    assert [one.name for one in gallery(made_up.comparison_of(found), found)] == ["accuracies"]


# --- the files


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


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX here")
@pytest.mark.parametrize("case", ["two_studies", "nothing_kept"])
def test_the_table_compiles(once: reports.Once, case: str, tmp_path: Path) -> None:
    table = (reports.written(once, case) / "table.tex").read_text()
    document = [r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}", table]
    (tmp_path / "tables.tex").write_text("\n".join([*document, r"\end{document}"]))

    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "tables"],  # noqa: S607 # the user's own
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout


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


# --- the command


class HeardError(Exception):
    """The command has said what it asks for."""


@dataclasses.dataclass
class Asking:
    """Gives commands and hears what study they ask for, as the study itself would."""

    workspace: Path
    monkeypatch: pytest.MonkeyPatch
    specification: Specification | None = None
    searched: dict[str, Specification] = dataclasses.field(default_factory=dict)
    trained: dict[tuple[str, str], Specification] = dataclasses.field(default_factory=dict)

    def give(self, commands: str) -> None:
        asking = self

        class Heard(Study):
            def run(
                self, *phases: Any, optimizers: Any = None, configs: Any = None, **settings: Any
            ) -> Never:
                given = {"optimizers": optimizers, "configs": configs, **settings}
                wanted = {key: value for key, value in given.items() if value}
                before = self.specification.to_keys()
                self.specification = self._with(before | wanted)
                self._record({}, phases or ("tuning", "training"))
                asking.specification = self.specification
                names = optimizers or self.specification.optimizers
                if not phases or "tuning" in phases:
                    asking.searched |= dict.fromkeys(names, self.specification)
                if not phases or "training" in phases:
                    chosen = configs or self.specification.configs
                    asking.trained |= {(o, c): self.specification for o in names for c in chosen}
                raise HeardError

        def opened(where: Where, name: str, settings: dict[str, Any], preset: str | None = None) -> Study:
            return Heard(name, preset=preset, workspace=self.workspace, **settings)

        self.monkeypatch.setattr(Where, "open_study", opened)
        for command in commands.splitlines():
            program, *arguments = shlex.split(command)
            assert program == "optstudy"
            with pytest.raises(HeardError):
                group.main(arguments, standalone_mode=False)


def unequal_trials() -> Evidence:
    few, many = reports.made_up(("sgd",), 2, trials=4), reports.made_up(("adam",), 2, trials=20)
    return Evidence(few.runs + many.runs, few.searches + many.searches, LOOKS)


def other_configs() -> Evidence:
    both = reports.made_up(("sgd",), 2, configs=("best", "paper"))
    return Evidence(
        both.runs + reports.made_up(("adam",), 2, configs=("default",)).runs, both.searches, LOOKS
    )


def without_a_search_of_its_own() -> Evidence:
    return reports.made_up(("sgd", "adam"), 2, configs=("paper", "default"), searches=False)


ASKED: Mapping[str, Callable[[], Evidence]] = {
    "typical": reports.typical,
    "later": lambda: reports.made_up(study="later"),
    "alone": lambda: reports.made_up(("sgd",), 1, searches=False, configs=("default",)),
    "special": reports.special,
    "unequal trials": unequal_trials,
    "other configs": other_configs,
    "no search": without_a_search_of_its_own,
    "a subset, no curvature": lambda: reports.made_up(
        ("sgd",), 2, searches=False, configs=("paper",), train_size=1000, samples=0, seed=7
    ),
    "no curvature": lambda: reports.made_up(("sgd",), 2, samples=0, seed=7, train_size=1000),
    "all of it": lambda: reports.made_up(
        ("sgd",), 2, samples="all", eigen_last="all", eigen_every=3, seed=11, train_epochs=10, sweep_every=4
    ),
    "every key": lambda: reports.made_up(
        ("sgd", "adam"), 3, configs=("best", "default"), dataset="my data.py:load", model="net.py:make",
        loss="loss.py:own", trials=7, batch=3, sampler="random", startup_trials=0, pruner="hyperband",
        objective="loss", tune_epochs=9, rung_epochs=2, tune_size=1234, finalists=4, finalist_seeds=2,
        validation=99, train_epochs=8, train_size=777, sweep_every=8, samples=50, eigen_last=0, batch_size=32,
        seed=3, threads=2, device="cuda:1",
    ),
    "a search failed": lambda: Evidence(
        (found := reports.made_up(("sgd", "adam"), 2)).runs[:2], found.searches
    ),
}  # fmt: skip


@pytest.mark.parametrize("made", ASKED.values(), ids=ASKED)
def test_the_command_asks_for_the_same_runs(
    made: Callable[[], Evidence], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = made()
    study = found.runs[0].run.study
    asking = Asking(tmp_path, monkeypatch)

    asking.give(study_commands(found, study))

    for one in found.runs:
        run, plan = one.run, one.plan
        now = asking.trained[run.optimizer, run.config]
        assert plan is not None
        assert final_plan(now, made_up.space(run.optimizer), {"lr": 0.1}, run.seed) == plan
        assert run.seed < now.training.seeds
        assert (now.margin, now.target) == (run.margin, run.target)
    assert asking.searched.keys() == {one.optimizer for one in found.searches}
    for search in found.searches:
        now = asking.searched[search.optimizer]
        before = Specification.from_keys(search.settings)
        assert search_settings(now) == search_settings(before)
        plans = [
            trial_plan(asked_for, search.space, {"lr": 0.1, "kind": "plain"}, again)
            for again in (0, 1)
            for asked_for in (now, Specification.from_keys({**now.to_keys(), **search.settings}))
        ]
        assert plans[0] == plans[1]
        assert plans[2] == plans[3]


def test_the_command_trains_and_searches_nothing_that_the_study_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, made in enumerate(ASKED.values()):
        found = made()
        asking = Asking(tmp_path / str(number), monkeypatch)
        asking.give(study_commands(found, found.runs[0].run.study))
        known = {(one.run.optimizer, one.run.config) for one in found.runs}
        failed = {(one.optimizer, "best") for one in found.searches}
        assert asking.trained.keys() <= known | failed


def test_one_command_does_where_all_optimizers_were_treated_alike() -> None:
    assert study_commands(reports.typical(), "quick").startswith(
        "optstudy study --study quick --opt sgd --opt adagrad --opt adam --opt adahessian --set configs=best"
    )
    assert [line.split()[1] for line in study_commands(unequal_trials(), "quick").splitlines()] == [
        "tune",
        "tune",
        "train",
    ]
    assert study_commands(without_a_search_of_its_own(), "quick").startswith(
        "optstudy train --study quick --opt sgd --opt adam --config paper --config default"
    )


def test_an_empty_comparison_has_no_exhibits() -> None:
    assert list(gallery(Comparison((), (), {}), Evidence((), ()))) == []


def test_text_on_the_page_is_what_html_means_by_it() -> None:
    assert Text(f"<p>{html.escape('a<b>&c')}</p>").text == "a<b>&c"
