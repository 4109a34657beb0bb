"""A trained model as MLflow loads it."""

from pathlib import Path
from typing import Any


def save_model(model: Any, example: Any, folder: Path) -> None:
    """Write a torch model as MLflow loads it: a traced graph, no pickle, with signature and input example.

    Args:
        model: The module, on the CPU, in eval mode.
        example: Inputs as the model takes them, a tensor of shape ``(n, ...)``.
        folder: Where to; must not exist.
    """
    import mlflow.pytorch
    import torch
    from mlflow.models import infer_signature

    with torch.no_grad():
        outputs = model(example).numpy()
    mlflow.pytorch.save_model(
        model,
        str(folder),
        signature=infer_signature(example.numpy(), outputs),
        input_example=example.numpy(),
        pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", f"mlflow=={mlflow.__version__}"],
        serialization_format="pt2",
    )
