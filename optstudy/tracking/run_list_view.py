"""How MLflow's list of final runs opens: with the columns that a comparison needs, not with none.

MLflow does not document the tag; where it is not understood the list opens as MLflow pleases.
"""

import json

from optstudy.records.metrics import TEST_ACCURACY, TRAIN_ACCURACY

KEY = "optstudy"  # of the view, in links
TAG = f"mlflow.sharedViewState.{KEY}"
COLUMNS = (
    "params.`optimizer`",
    "params.`config`",
    "params.`seed`",
    f"metrics.`{TRAIN_ACCURACY}`",
    f"metrics.`{TEST_ACCURACY}`",
)


def view(created_at: float) -> str:
    """Return the value of the tag."""
    state = json.dumps({"selectedColumns": COLUMNS})
    return json.dumps({"name": "Final accuracies", "createdAt": int(1000 * created_at), "state": state})
