"""Evidence for whole reports, made up, with the plans, settings and facts that real runs have."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evidence import LONG, PAPER, bare, diverged, runs_of, search_result, space, with_run
from finals import LOOKS

from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.provenance import Provenance
from optstudy.records.search import Finalist, SearchResult
from optstudy.records.space import Choice
from optstudy.report.bundle import build_report
from optstudy.study.keys import KEYS
from optstudy.study.plans import final_plan
from optstudy.study.specification import Specification
from optstudy.study.tuning.flow import search_settings

Once = Callable[[str, Callable[[Path], None]], Path]

FACTS = {"optstudy": "0.1.0", "torch": "2.14.1", "commit": "0123abc", "machine": "one & <only>"}
SPECIAL = ("a<b>&c", "x_$y$_z", 'c\'est "le" {lr}')
NUDGE = Choice("kind", ("plain", "<b>bold</b>"), "Either & both < are > tried.")


def specification(**changes: Any) -> Specification:
    return Specification.from_keys({"trials": 20, "train_epochs": 30, "seeds": 10, **changes})


def planned(one: RunEvidence, asked: Specification) -> RunEvidence:
    """Return the run with a plan and all that is known of where it ran."""
    plan = final_plan(asked, space(one.run.optimizer), {"lr": 0.1}, one.run.seed)
    one = with_run(
        one,
        provenance=Provenance.from_details(FACTS, None),
        finished_at=1_790_000_000.0 + one.run.seed,
        steps=18_000,
        step_seconds=0.002,
        files=f"/home/me/mlruns/{one.run.run_id}/artifacts",
        params={"lr": "0.1"},
    )
    fixed = {key: value for key, value in asked.to_keys().items() if not KEYS[key].grows}
    keys = fixed | {"target": one.run.target, "margin": one.run.margin}
    return replace(one, plan=plan, specification=json.loads(json.dumps(keys)))


def searched(optimizer: str, asked: Specification, study: str = "quick") -> SearchResult:
    """Return a search whose three best trials were trained again, if the study does that."""
    found = search_result(optimizer, study)
    trials = [
        replace(trial, params={**trial.params, "kind": NUDGE.choices[trial.number % 2]})
        for trial in found.trials
    ]
    best = sorted((t for t in trials if t.state == "completed"), key=lambda t: -(t.score or 0.0))[:3]
    again = tuple(
        Finalist(one.number, (2000, 3000), ((one.score or 0.0) - 0.001,) * 2, 7200.0) for one in best
    )
    known = found.space
    wider = replace(
        known,
        search=(*known.search, NUDGE),
        default={**known.default, "kind": "plain"},
        fixed={"eps": 1e-8},
    )
    return replace(
        found,
        trials=tuple(trials),
        best=best[0],
        finalists=again if asked.tuning.finalists > 1 else (),
        space=wider,
        settings=search_settings(asked),
    )


def made_up(
    optimizers: Sequence[str] = PAPER,
    seeds: int = 10,
    *,
    study: str = "quick",
    searches: bool = True,
    **changes: Any,
) -> Evidence:
    """Return a whole study with everything that may be measured."""
    asked = specification(optimizers=tuple(optimizers), seeds=seeds, **changes)
    runs = [
        planned(one, asked)
        for config in asked.configs
        for one in runs_of(optimizers, seeds, config, study=study)
    ]
    runs.sort(key=lambda one: tuple(optimizers).index(one.run.optimizer))
    return Evidence(
        tuple(runs), tuple(searched(name, asked, study) for name in optimizers) if searches else (), LOOKS
    )


def typical() -> Evidence:
    return made_up(finalists=3)


def without_curvature(found: Evidence) -> Evidence:
    """Leave out what takes longest to draw."""
    runs = [
        replace(one, trace=None, curvature=None, run=replace(one.run, curvature=None)) for one in found.runs
    ]
    return Evidence(tuple(runs), found.searches, LOOKS)


def special() -> Evidence:
    """Names with every letter that means something to HTML, LaTeX or matplotlib, or too many of them."""
    return made_up((*SPECIAL, LONG), 3, study="a_b.c-d", model="my <net>.py:make")


def two_studies() -> Evidence:
    """Eight rows, four of them with special names, three of these without curvature."""
    one, other = without_curvature(made_up(seeds=3, finalists=3)), special()
    plain = without_curvature(Evidence(other.runs[3:], ())).runs
    return Evidence(one.runs + other.runs[:3] + plain, one.searches + other.searches, LOOKS)


def alone() -> Evidence:
    return made_up(("sgd",), 1, searches=False)


def diverging() -> Evidence:
    """Runs that diverged, and others without curvature."""
    found = made_up(("sgd", "adam"), 3)
    lost = [diverged(one, after=2 * one.run.seed) for one in found.runs[:2]]
    plain = without_curvature(Evidence(found.runs[2:], ()))
    return Evidence((*lost, *plain.runs), found.searches, LOOKS)


def nothing_kept() -> Evidence:
    found = made_up(("sgd", "adam"), 2, searches=False)
    return Evidence(tuple(bare(one) for one in found.runs), (), LOOKS)


CASES: dict[str, Callable[[], Evidence]] = {
    made.__name__: made for made in (typical, two_studies, alone, diverging, nothing_kept)
}


def build(case: str) -> dict[str, bytes]:
    found = CASES[case]()
    studies = tuple(dict.fromkeys(one.run.study for one in found.runs))
    return build_report(replace(found, excluded={"failed": 1}, studies=studies))


def written(once: Once, case: str) -> Path:
    """Return the folder of a report; only to be read."""
    return once(f"report-{case}", lambda folder: write(build(case), folder))


def unsealed(files: Mapping[str, bytes]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of a report, and the content of its ``runs.json`` without checksums, to be changed."""
    content = json.loads(files["runs.json"])
    del content["checksum"], content["predictions"]
    return {**files, "runs.json": json.dumps(content).encode()}, content


def write(files: Mapping[str, bytes], folder: Path) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
