"""The default columns of MLflow's list of runs.

The columns are set by a tag that MLflow does not document; versions without it show their own columns.
"""

import json
from collections.abc import Iterable, Sequence

from optstudy.records.metrics import TEST_ACCURACY, TRAIN_ACCURACY

KEY = "optstudy"  # of the view, in links
TAG = f"mlflow.sharedViewState.{KEY}"
FINAL_COLUMNS = (
    "params.`optimizer`",
    "params.`config`",
    "params.`seed`",
    f"metrics.`{TRAIN_ACCURACY}`",
    f"metrics.`{TEST_ACCURACY}`",
)


def trial_columns(objective: str, hyperparameters: Iterable[str]) -> tuple[str, ...]:
    """Return the columns for a list of trials: outcome, score and hyperparameters."""
    params = (f"params.`{name}`" for name in dict.fromkeys(hyperparameters))
    return ("tags.`optstudy.outcome`", f"metrics.`validation/{objective}`", *params)


def view(columns: Sequence[str], created_at: float) -> str:
    """Return the value of the tag that selects these columns."""
    state = json.dumps({"selectedColumns": columns})
    return json.dumps({"name": "optstudy", "createdAt": int(1000 * created_at), "state": state})
