"""FALLBACK: remove this file, and both `except ImportError` of reference_pages.py, once the package has key_table()."""

# ruff: noqa: E501, Q003
from dataclasses import fields
from typing import Any, NamedTuple


class Key(NamedTuple):
    """A key as `key_table()` will return it."""

    name: str
    default: Any
    meaning: str
    values: str
    group: str = ""


WHOLE, WHOLE_0, FRACTION = (
    "a whole number, 1 or more",
    "a whole number, 0 or more",
    "a fraction between 0 and 1",
)
PRESET = {
    "dataset": (
        "study",
        "a name or `FILE.py:FUNCTION`",
        "Data set: `mnist`, `fashion-mnist`, `cifar10`, or your own.",
    ),
    "model": ("study", "a name or `FILE.py:FUNCTION`", "Model: `lenet5`, or your own."),
    "loss": ("study", "a name or `FILE.py:FUNCTION`", "Loss: `cross_entropy`, or your own."),
    "optimizers": ("study", "a list of names", "Optimizers to compare."),
    "configs": (
        "study",
        "a list of `best`, `paper`, `default`",
        "Where the hyperparameters of final runs come from.",
    ),
    "batch_size": ("study", WHOLE, "Images of a mini-batch."),
    "margin": (
        "study",
        FRACTION,
        "Optimizers whose test accuracies differ by less than this count as equivalent.",
    ),
    "target": ("study", FRACTION, "A test accuracy; how soon each run reaches it is recorded."),
    "seed": ("study", WHOLE_0, "Seed of the split, the sampler and the trials."),
    "threads": ("study", WHOLE, "Threads of each worker."),
    "device": ("study", "`cpu`, `cuda`, `cuda:1`, `mps`", "Device on which models are trained."),
    "deterministic": (
        "study",
        "`true` or `false`",
        "Use only algorithms that give the same bits each time, on a GPU too.",
    ),
    "trials": ("tuning", WHOLE, "Configurations tried for each optimizer."),
    "batch": ("tuning", WHOLE, "Trials proposed together; `trials` is rounded up to a multiple of it."),
    "sampler": ("tuning", "`tpe`, `gp`, `random` or `qmc`", "How configurations are proposed."),
    "startup_trials": (
        "tuning",
        WHOLE_0,
        "Trials before the sampler learns from the others: the paper's values, the defaults, and random ones.",
    ),
    "pruner": ("tuning", "`median`, `hyperband` or `none`", "How trials are stopped early."),
    "objective": ("tuning", "`accuracy` or `loss`", "Score of a trial, on the validation images."),
    "tune_epochs": ("tuning", WHOLE, "Epochs of a trial."),
    "rung_epochs": ("tuning", WHOLE, "Epochs of a trial between two decisions of the pruner."),
    "tune_size": (
        "tuning",
        WHOLE_0,
        "Training images of a trial, a fixed stratified subset; 0 means all but the validation images.",
    ),
    "validation": ("tuning", WHOLE, "Images held out of the training set for validation while tuning."),
    "finalists": (
        "tuning",
        WHOLE,
        "Best trials that are trained again before one is chosen; 1 means none is.",
    ),
    "finalist_seeds": ("tuning", WHOLE, "Seeds from which each finalist is trained again."),
    "train_epochs": ("training", WHOLE, "Epochs of a final run."),
    "train_size": (
        "training",
        WHOLE_0,
        "Training images of a final run, a fixed stratified subset; 0 means all.",
    ),
    "sweep_every": (
        "training",
        WHOLE_0,
        "Epochs between exact evaluations on the whole training set; 0 means only at the end.",
    ),
    "seeds": ("training", WHOLE, "Final runs of each configuration, from seed 0 on."),
    "samples": (
        "curvature",
        "a whole number, 0 or more, or `all`",
        "Training images on which curvature is measured; 0 means that it is not measured.",
    ),
    "eigen_last": (
        "curvature",
        "a whole number, 0 or more, or `all`",
        "Steps at the end of a final run whose largest eigenvalues are tracked.",
    ),
    "eigen_every": ("curvature", WHOLE, "Steps from one tracked step to the next."),
}
SPACE = [
    Key("optimizer", None, "Class of the optimizer. Required.", "`package.module.Class`, `package.module:name` or `FILE.py:NAME`"),
    Key("needs", None, "What `step` is called with: nothing by default, or a function that returns the loss.", "`closure`"),
    Key("seeded", False, "Whether the constructor takes an argument `seed`; it is given the seed of the run.", "`true` or `false`"),
    Key("hessian_products", 0, "Hessian-vector products of one step, which count as gradient work.", WHOLE_0),
    Key("[tuples]", None, "Arguments of the constructor that combine several values.", "`ARGUMENT = [\"NAME\", \"NAME\"]`"),
    Key("[fixed]", None, "Arguments of the constructor that are not searched.", "`NAME = VALUE`"),
    Key("[search.NAME]", None, "One searched hyperparameter; at least one is required.", "a table of the keys below"),
    Key("low", None, "Lower end of the range, included.", "a number"),
    Key("high", None, "Upper end of the range, included.", "a number"),
    Key("log", False, "Draw values evenly in the logarithm.", "`true` or `false`"),
    Key("complement", False, "Draw 1 - value; with `log`, evenly in log(1 - value). `low` and `high` are those of the value.", "`true` or `false`"),
    Key("integer", False, "Draw whole numbers.", "`true` or `false`"),
    Key("choices", None, "Values to choose from, in place of `low` and `high`.", "a list of numbers, strings or booleans"),
    Key("why", None, "The reason for the range, shown by `optstudy optimizers NAME`. Required.", "a sentence"),
    Key("[default]", None, "The library's default of every searched hyperparameter; one of the first trials. Required.", "`NAME = VALUE`"),
    Key("[paper]", None, "Another configuration for the first trials, and for `--config paper`.", "`NAME = VALUE`"),
]  # fmt: skip


def preset_keys() -> list[Key]:
    """Return the keys of a preset."""
    try:
        from optstudy.specification import Specification
    except ImportError:
        from optstudy.study.specification import Specification
    defaults = {field.name: field.default for field in fields(Specification)}
    return [Key(name, defaults[name], PRESET[name][2], PRESET[name][1], PRESET[name][0]) for name in PRESET]


def space_keys() -> list[Key]:
    """Return the keys of a space file."""
    return SPACE
