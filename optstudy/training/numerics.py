"""Numerical settings of a run (threads, determinism), and a description of its machine (processor, GPU, flags)."""

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from optstudy.records.plan import Plan


@contextlib.contextmanager
def numerics(plan: Plan) -> Iterator[None]:
    """Apply the numerical settings of a plan, and restore the caller's afterwards.

    For a deterministic plan, torch uses deterministic algorithms and raises an error if there is none, cuDNN selects
    its algorithms without timing them, and float32 products are computed in float32 rather than TF32.
    CUBLAS_WORKSPACE_CONFIG must be set before CUDA starts; it is in the environment of a study's workers.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        with _deterministic() if plan.deterministic else contextlib.nullcontext():
            yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, products = torch.backends.cudnn.benchmark, _float32_products()
    precisions = [product.fp32_precision for product in products]
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.benchmark = False
    for product in products:
        product.fp32_precision = "ieee"
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        for product, precision in zip(products, precisions, strict=True):
            product.fp32_precision = precision


def machine(plan: Plan) -> dict[str, str]:
    """Describe the hardware and settings on which the numerical results of a plan depend.

    Returns:
        ``processor``, ``instructions`` (the set that torch's CPU kernels use), ``device`` (``cpu`` or the GPU's
        name), ``driver`` where there is a GPU, ``threads`` and ``flags``.
    """
    device = torch.device(plan.device)
    description = {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
    if device.type == "cuda":
        cudnn: Any = torch.backends.cudnn
        description["driver"] = f"{_driver()}, CUDA {torch.version.cuda}, cuDNN {cudnn.version()}"
    with numerics(plan):
        return description | {"threads": str(torch.get_num_threads()), "flags": _flags()}


def _flags() -> str:
    deterministic = "deterministic" if torch.are_deterministic_algorithms_enabled() else "not deterministic"
    timed = "timed" if torch.backends.cudnn.benchmark else "fixed"
    matmul, conv = (product.fp32_precision for product in _float32_products())
    return f"{deterministic}; cuDNN's choice {timed}; float32 products {matmul}, convolutions {conv}"


def _float32_products() -> tuple[Any, Any]:
    """Return torch's precision settings (float32 or TF32) of matrix products and convolutions."""
    cudnn: Any = torch.backends.cudnn  # its types lack `conv`
    return torch.backends.cuda.matmul, cudnn.conv


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _driver() -> str:
    """Return the version of NVIDIA's driver; known on Linux only."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split()
    except OSError:
        return "driver unknown"
    return next((f"driver {word}" for word in words if word[0].isdigit() and "." in word), "driver unknown")
