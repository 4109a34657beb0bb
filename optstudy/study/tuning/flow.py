"""An optimizer's search as a flow: train what the search asks for, and log every trial."""

import dataclasses
import time
from typing import Any

from optstudy.execution.flows import Failure, Flow, Together
from optstudy.records.naming import label_of
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, Rung
from optstudy.records.search import Searched, SearchEvidence, Trial, best_trial
from optstudy.records.space import Space
from optstudy.report import figures
from optstudy.study.context import Context
from optstudy.study.events import Notice, Problem, Progress, SearchEnded, TrialEnded
from optstudy.study.plans import search_settings, trial_plan
from optstudy.study.specification import TUNING_KEYS
from optstudy.study.tuning.ask_tell import search
from optstudy.study.tuning.best import keep_best, read_kept
from optstudy.study.tuning.finalists import choose_finalist
from optstudy.study.tuning.importance import importances
from optstudy.study.tuning.messages import Answer, Ask, Settings


@dataclasses.dataclass
class Tuning:
    """One search under way: its MLflow runs that are open, and what its trials recorded."""

    context: Context
    space: Space
    parent: str | None = None  # the search's own MLflow run; None where it is finished already
    open: dict[int, str] = dataclasses.field(default_factory=dict)  # trial -> MLflow run
    records: dict[int, list[EpochRecord]] = dataclasses.field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """How the study searches."""
        return search_settings(self.context.specification)

    def flow(self) -> Flow:
        """Search, logging every trial; the flow returns what was found."""
        kept = self.context.files.best(self.space.name)
        before = read_kept(kept) if kept.exists() else None  # hours before it is needed
        searching = search(self.space, self.settings, self.context.files.journal)
        ended: list[Trial] = []
        self.parent = self._open_parent()
        try:
            step = next(searching)
            while True:
                if isinstance(step, list):
                    answers = yield Together(tuple(self._rung(ask) for ask in step))
                    step = searching.send(answers)
                else:
                    for trial in step:
                        ended.append(trial)
                        yield from self._end(trial, ended)
                    step = next(searching)
        except StopIteration as stop:
            searched: Searched = stop.value
        searched = yield from choose_finalist(self.context, self.space, searched, self.parent)
        if searched.best is not None:
            yield from keep_best(self.context, searched, self.settings, before)
        return searched

    def report(self, searched: Searched) -> Flow:
        """Draw the search, and end its MLflow run."""
        if searched.best is None:
            states = ", ".join(sorted({trial.state for trial in searched.trials}))
            source = self.space.source
            yield Problem(
                f"no trial of {self.space.name} completed ({states}); look at the ranges in {source} or,"
                " if other optimizers do no better, at model, loss and data"
            )
        if self.parent is not None:
            shares = importances(self.space, searched, self.settings.seed)
            searched = dataclasses.replace(searched, importances=shares)
            drawn = {
                "history.png": figures.history(searched),
                "importances.png": figures.importances(searched),
                "slices.png": figures.slices(searched, self.space),
                "learning_rate.png": figures.score_against_learning_rate(searched, self.space),
            }
            files = {name: figures.png(figure) for name, figure in drawn.items()}
            files["search.json"] = self._evidence(searched).to_json()
            self.context.tracking.log_files(self.parent, files)
            self.context.tracking.close_run(self.parent, "completed" if searched.best else "failed")
            self.parent = None
        if searched.best is not None:
            yield SearchEnded(searched)

    def _evidence(self, searched: Searched) -> SearchEvidence:
        specification = dataclasses.asdict(self.context.specification)
        settings = {key: specification[key] for key in (*TUNING_KEYS, "batch_size", "seed")}
        return SearchEvidence(self.context.files.name, searched, self.space, settings)

    def interrupt(self) -> None:
        """Close the MLflow runs that are still open."""
        for run_id in [*self.open.values(), *([self.parent] if self.parent else [])]:
            self.context.tracking.interrupt_run(run_id)

    def _plan(self, params: dict[str, Any]) -> Plan:
        return trial_plan(self.context.specification, self.space, params)

    def _name(self, number: int) -> str:
        return f"{self.space.name}/{number:03d}"

    def _rung(self, ask: Ask) -> Flow:
        """Train one trial for one rung, and log it; the flow returns the search's Answer."""
        plan = self._plan(ask.params)
        rung = yield from self.context.rung(self.space.name, plan, ask.since, ask.until)
        if isinstance(rung, Failure):
            rung = self.context.keep_failure(plan, ask.until, rung)
        if rung.problem and not self._is_old(ask.number, plan):
            yield Notice(f"trial {self._name(ask.number)} failed: {rung.problem}")
        records = self.records.setdefault(ask.number, [])
        records += rung.epochs
        self._log(ask, plan, rung)
        spent = sum(record.gradient_work for record in records)
        epochs = records[-1].epoch if records else 0
        if rung.outcome == "failed":
            return Answer("failed", None, epochs, spent)
        done = self.context.seconds(self.space.name, plan, ask.since, epochs)
        yield Progress(self._name(ask.number), done, records[-1], before=self._is_old(ask.number, plan))
        last = records[-1]
        score = last.heldout_accuracy if self.settings.objective == "accuracy" else last.heldout_loss
        return Answer(rung.outcome, score, epochs, spent)

    def _log(self, ask: Ask, plan: Plan, rung: Rung) -> None:
        tracking, experiment = self.context.tracking, self.context.experiment("tuning")
        name = self._name(ask.number)
        known = self.context.known_run("tuning", name, plan)
        if self._is_old(ask.number, plan):
            return
        if ask.number not in self.open:
            first = rung.epochs[0] if rung.epochs else None
            self.open[ask.number] = tracking.open_run(
                experiment,
                name,
                key=self.context.key(plan),
                tags={
                    "optstudy.study": self.context.files.name,
                    "optstudy.kind": "trial",
                    **self.context.facts(plan, [rung.machine]),
                },
                params={"optimizer": self.space.name, "trial": ask.number, **ask.params},
                started_at=first.finished_at - first.seconds if first else time.time(),
                parent=self.parent,
                known=known,
            )
        tracking.log_epochs(self.open[ask.number], rung.epochs, "validation")
        if rung.problem:
            tracking.set_tags(self.open[ask.number], {"optstudy.problem": rung.problem})

    def _end(self, trial: Trial, ended: list[Trial]) -> Flow:
        plan, records = self._plan(trial.params), self.records.get(trial.number, [])
        self.context.rungs.drop_state(self.context.key(plan))
        # None for a trial that failed at once: with another time at each start its metrics would double.
        finished_at = records[-1].finished_at if records else None
        run_id = self.open.pop(trial.number, None)
        if run_id is not None:
            if finished_at is not None:
                spent = ("gradient_work", trial.gradient_work, 0, finished_at)
                self.context.tracking.log_metrics(run_id, [spent])
            self.context.tracking.close_run(run_id, trial.state, finished_at)
        best = best_trial(ended, self.settings.objective)
        if best is not None and self.parent is not None and finished_at is not None:
            metric = (f"validation/{self.settings.objective}", best.score or 0.0, trial.number, finished_at)
            self.context.tracking.log_metrics(self.parent, [metric])
        left = self.context.seconds(self.space.name, plan, trial.epochs, self.settings.epochs)
        before = self._is_old(trial.number, plan)
        yield Progress(self._name(trial.number), left, before=before)
        yield TrialEnded(self.space.name, trial, before=before)

    def _is_old(self, number: int, plan: Plan) -> bool:
        """Whether a trial had ended when the study was started this time."""
        known = self.context.known_run("tuning", self._name(number), plan)
        return known is not None and known.ended

    def _parent_key(self) -> str:
        return f"{self.space.name} {self.settings.trials} trials"

    def _open_parent(self) -> str | None:
        tracking, experiment = self.context.tracking, self.context.experiment("tuning")
        known = self.context.known[experiment].get(self.space.name)
        if known is not None and known.finished and known.key == self._parent_key():
            return None
        specification = self.context.specification
        parent = tracking.open_run(
            experiment,
            self.space.name,
            key=self._parent_key(),
            tags={
                "optstudy.study": self.context.files.name,
                "optstudy.kind": "search",
                "optstudy.key": self._parent_key(),
                "mlflow.note.content": _description(self.space, self.settings),
            },
            params={
                "optimizer": self.space.name,
                "sampler": specification.sampler,
                "pruner": specification.pruner,
            },
            started_at=time.time(),
            known=known,
        )
        part = f"{specification.tune_size or 'all other'} training and {specification.validation} validation images"
        tracking.log_dataset(parent, self.context.data, part)
        return parent


def _description(space: Space, settings: Settings) -> str:
    rows = "\n".join(f"| `{item.name}` | {item} | {item.why} |" for item in space.search)
    return (
        f"Search of **{label_of(space.name)}** (`{space.optimizer}`): {settings.trials} trials of"
        f" {settings.epochs} epoch{'s' * (settings.epochs > 1)}, judged by validation {settings.objective}.\n\n"
        f"| hyperparameter | searched | why |\n|---|---|---|\n{rows}\n"
    )
