"""Save a trained model in MLflow's format."""

from pathlib import Path
from typing import Any


def save_model(model: Any, example: Any, folder: Path) -> None:
    """Save a torch model in MLflow's format: a traced graph, no pickle, with signature and input example.

    Args:
        model: The module, on the CPU, in eval mode.
        example: Example inputs of the model, a tensor of shape ``(n, ...)``.
        folder: Output folder; must not exist.
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
