"""Products in full float32: without TF32 on GPUs, and without the shorter formats of oneDNN on CPUs."""

import contextlib
from collections.abc import Iterator

import torch

# What torch computes products in, a backend's own setting before those of its operations, which may inherit it.
ON_CPU = [("generic", "all"), *(("mkldnn", operation) for operation in ("all", "matmul", "conv", "rnn"))]
ON_CUDA = [*ON_CPU, *(("cuda", operation) for operation in ("all", "matmul", "conv", "rnn"))]
FULL = ("none", "ieee")  # not set, which is full precision but for the defaults of cuDNN, or set to it


@contextlib.contextmanager
def ieee_float32(device: torch.device) -> Iterator[None]:
    """Compute float32 products, convolutions and recurrent layers on a device in IEEE float32.

    What inherits a setting is never set itself, so that all settings are afterwards what they were, not only what they
    amount to. Those of cuDNN stay alone on the CPU: while they differ from those of torch's older interface, a model
    that calls ``torch.backends.cudnn.flags`` raises an error.
    """
    read = torch._C._get_fp32_precision_getter  # noqa: SLF001  # oneDNN's own has no public setter
    write = torch._C._set_fp32_precision_setter  # noqa: SLF001
    changed: list[tuple[str, str, str]] = []
    try:
        for backend, operation in ON_CUDA if device.type == "cuda" else ON_CPU:
            found = read(backend, operation)
            default_of_cudnn = (backend, operation) == ("cuda", "all") and found == "none"
            if found not in FULL or default_of_cudnn:
                write(backend, operation, "ieee")
                changed.append((backend, operation, found))
        yield
    finally:
        for backend, operation, found in reversed(changed):
            write(backend, operation, found)
