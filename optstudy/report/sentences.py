"""Verdicts, the setup of a study and the Methods paragraph, as plain sentences."""

import math
from collections.abc import Sequence

from optstudy.comparison.pairs import Pair
from optstudy.comparison.table import Comparison, Row
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.look import Looks
from optstudy.records.search import SearchResult
from optstudy.report.citation import citation
from optstudy.report.tables.table import count_label, p_label


def verdict_sentence(pair: Pair, margin: float, looks: Looks) -> str:
    """Return the verdict on a pair as a sentence."""
    a, b, test = looks.row_label(pair.a), looks.row_label(pair.b), pair.test
    if math.isnan(test.p):
        return f"{a} and {b} have one common seed, which supports no verdict."
    if test.verdict == "worse":
        return _better(b, a, -test.difference.mean, -test.high, -test.low, test.p_holm)
    if test.verdict == "better":
        return _better(a, b, test.difference.mean, test.low, test.high, test.p_holm)
    gap = f"{100 * test.difference.mean:+.2f} points ({_between(test.low, test.high)})"
    if test.verdict == "equivalent":
        return f"{a} and {b} are equivalent within {100 * margin:g} points: {gap}."
    return f"No difference between {a} and {b} is shown: {gap}, {_p(test.p_holm)}."


def _better(a: str, b: str, gap: float, low: float, high: float, p: float) -> str:
    return (
        f"{a} is better than {b} by {100 * gap:.2f} points of test accuracy ({_between(low, high)}), {_p(p)}."
    )


def _between(low: float, high: float) -> str:
    return f"{100 * low:+.2f} to {100 * high:+.2f}"


def _p(p: float) -> str:
    shown = p_label(p)
    return f"p {shown}" if shown.startswith("<") else f"p = {shown}"


def headline(rows: Sequence[Row], pairs: Sequence[Pair], looks: Looks) -> str:
    """Return the result of one study in a sentence: the ranking, or the number of decided pairs."""
    if len(rows) == 1:
        return "There is one configuration, and nothing to compare."
    decided = sum(pair.test.verdict in ("better", "worse") for pair in pairs)
    ranks = {row.rank for row in rows}
    if pairs and "tie" not in ranks and len(ranks) == len(rows):
        ordered = sorted(rows, key=lambda row: int(row.rank))
        labels = [looks.row_label(row.key) for row in ordered]
        return f"All pairs are decided, from the best: {', '.join(labels)}."
    if not decided:
        return "No pair is decided: these runs do not show which optimizer is better."
    counts = f"{decided} of {len(pairs)} pairs {'is' if decided == 1 else 'are'} decided"
    return f"{counts}; a row with an undecided pair has no rank, and counts as tied."


def study_setup(evidence: Evidence, study: str) -> list[str]:
    """Describe the setup of a study: the optimizers, how they were tuned, and how the final runs were trained."""
    runs = [final for final in evidence.runs if final.run.study == study]
    searches = [search for search in evidence.searches if search.study == study]
    rows = dict.fromkeys(final.run.id.row for final in runs)
    names = ", ".join(evidence.looks.row_label(key) for key in rows)
    sentences = [f"Compared: {names}."]
    if searches:
        sentences.append(tuning_sentence(searches))
    if sentence := training_sentence(runs):
        sentences.append(sentence)
    return sentences


def tuning_sentence(searches: Sequence[SearchResult]) -> str:
    """Describe the searches of one study."""
    settings = searches[0].settings
    trials = count_label("trial", (len(search.trials) for search in searches))
    sampler = {"tpe": "TPE", "gp": "a Gaussian process", "random": "random search", "qmc": "a Sobol sequence"}
    pruner = {"median": ", the median pruner", "hyperband": ", Hyperband", "none": ", no pruning"}
    size = count_label("other", [settings["tune_size"]]) if settings["tune_size"] else "all others"
    sentence = (
        f"Each optimizer was searched with {trials} of {count_label('epoch', [settings['tune_epochs']])}"
        f" ({sampler[settings['sampler']]}{pruner[settings['pruner']]}), judged by the {settings['objective']} on"
        f" {count_label('training example', [settings['validation']])} held out for validation, and trained on {size}."
    )
    if any(search.finalists for search in searches):
        seeds = settings["finalist_seeds"]
        sentence += (
            f" The best {settings['finalists']} trials were retrained from {count_label('other seed', [seeds])}, and"
            f" the one with the best {'mean of these' if seeds > 1 else 'score there'} was chosen."
        )
    return sentence


def training_sentence(runs: Sequence[RunEvidence]) -> str:
    """Describe the training of one study's final runs; empty if no plan was recorded."""
    plan = next((final.plan for final in runs if final.plan is not None), None)
    if plan is None:
        return ""
    seeds = count_label("seed", map(len, Evidence(tuple(runs)).rows().values()))
    images = f"{plan.split.size:,}" if plan.split.size else "all"
    return (
        f"Each configuration was trained for {count_label('epoch', [plan.epochs])} from {seeds}"
        f" on {images} training examples of {plan.dataset} ({plan.model}, {plan.loss},"
        f" mini-batches of {plan.batch_size}); test examples are used only for reporting."
    )


def methods(comparison: Comparison, evidence: Evidence, study: str) -> str:
    """Return a paragraph for the Methods of a paper, with BibTeX keys in brackets."""
    searches = [one for one in evidence.searches if one.study == study]
    runs = [final for final in evidence.runs if final.run.study == study]
    versions = runs[0].run.provenance.versions if runs else {}
    looks = [evidence.looks[name] for name in dict.fromkeys(final.run.optimizer for final in runs)]
    *others, last = (f"{look.label}{citation(look.cite)}" for look in looks)
    names = f"{', '.join(others)} and {last}" if others else last
    rows = [row for row in comparison.rows if row.study == study]
    pairs = [pair for pair in comparison.pairs if pair.study == study]
    tool = " ".join(part for part in ("optstudy", versions.get("optstudy", ""), "[@optstudy]") if part)
    parts = [
        f"We {'compared' if len({row.optimizer for row in rows}) > 1 else 'trained'} {names} with {tool}."
    ]
    if searches:
        parts.append(tuning_sentence(searches) + " Searches used Optuna [@optuna].")
    parts.append(training_sentence(runs))
    if any(row.seeds > 1 for row in rows):
        parts.append("Accuracies are means over seeds with 95 % Student t intervals.")
    if any(not math.isnan(pair.test.p) for pair in pairs):
        parts.append(
            "Pairs of optimizers were compared over their common seeds and all test examples by a t test whose variance"
            " accounts for both seeds and examples; p-values are Holm's [@holm] and intervals"
            f" Bonferroni's over {count_label('pair', [pairs[0].family])}, and equivalence was tested by"
            f" two one-sided tests [@schuirmann] inside {100 * runs[0].run.margin:g} points."
        )
    if any(final.curvature is not None for final in runs):
        samples = next(final.curvature.samples for final in runs if final.curvature is not None)
        parts.append(
            f"Hessian eigenvalues were computed on {samples:,} fixed training examples by a block Lanczos method with"
            " residuals in float64 and a check for missed eigenvalues."
        )
    return " ".join(part for part in parts if part)
