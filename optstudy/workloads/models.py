"""LeNet-5, and loading of the user's own models and losses."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from optstudy.errors import UsageError, suggestion
from optstudy.workloads.dataset import Dataset
from optstudy.workloads.user_code import call, is_user_code, load_object

Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs, targets) to the mean loss of the batch


class LeNet5(nn.Module):
    r"""LeNet-5 with tanh and average pooling, for images of 32 by 32 (LeCun et al., 1998).

    ========  ===================  =============  ===========
    layer     weight               output         followed by
    ========  ===================  =============  ===========
    conv1     (6, channels, 5, 5)  (6, 28, 28)    tanh, pool
    conv2     (16, 6, 5, 5)        (16, 10, 10)   tanh, pool
    conv3     (120, 16, 5, 5)      (120, 1, 1)    tanh
    fc1       (84, 120)            (84,)          tanh
    fc2       (classes, 84)        (classes,)
    ========  ===================  =============  ===========

    Each layer has a bias. For one channel and ten classes there are 61,706 parameters, with the default
    initialisation of `nn.Conv2d` and `nn.Linear`, in this order. ``pool`` is 2 by 2 average pooling. Unlike in the
    1998 network, each map of conv2 is connected to all maps of conv1, and the outputs are logits.

    `forward` computes this function by matrix products, which on a CPU takes three fifths of the time of calling
    the layers (``benchmarks/training.py``). A square of 2 by 2 outputs of a 5 by 5 convolution depends on 6 by 6
    inputs. A single product of all 6 by 6 patches (with stride 2) and each kernel at its 4 positions in a patch
    therefore computes the convolution, with the 4 outputs of each pooling square in adjacent rows. Images are
    columns, so patches are gathered by copying rows. The convolutions only hold parameters and are not called, so
    hooks on them do not run.

    Args:
        channels: Number of the images' channels.
        classes: Number of logits.
    """

    shifts: Tensor
    patches1: Tensor
    patches2: Tensor

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.conv3 = nn.Conv2d(16, 120, kernel_size=5)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, classes)
        self.register_buffer("shifts", -2 * _shifts(), persistent=False)  # see _convolve_tanh_pool
        self.register_buffer("patches1", _patches(channels, 32), persistent=False)
        self.register_buffer("patches2", _patches(6, 14), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits, ``(n, classes)``.

        Args:
            x: Images of shape ``(n, channels, 32, 32)``, floating-point.

        Raises:
            UsageError: If the images have another shape.
        """
        expected = (self.conv1.weight.shape[1], 32, 32)
        if tuple(x.shape[1:]) != expected:
            raise UsageError(f"LeNet5 takes images of shape {expected}, not {tuple(x.shape[1:])}")
        h = self._convolve_tanh_pool(x.flatten(1).t().contiguous(), self.conv1, self.patches1)
        h = self._convolve_tanh_pool(h, self.conv2, self.patches2)
        # The kernels of conv3 cover their entire input, so it is a single product.
        h = functional.linear(h.t(), self.conv3.weight.flatten(1), self.conv3.bias).tanh()
        return self.fc2(self.fc1(h).tanh())  # type: ignore[no-any-return]  # nn.Module's calls are untyped

    def _convolve_tanh_pool(self, x: Tensor, layer: nn.Conv2d, patches: Tensor) -> Tensor:
        r"""Apply a 5 by 5 convolution, tanh and 2 by 2 mean pooling.

        On a CPU torch's tanh can take six times as long as its sigmoid, so
        :math:`\tanh a = 1 - 2\,\sigma(-2a)`, with the factor -2 in ``shifts`` and in the bias.

        Args:
            x: Maps, one image per column, ``(in * h * w, n)``.
            layer: The convolution whose parameters are used.
            patches: Indices of each patch's inputs, ``(in * 36 * squares,)``; see `_patches`.

        Returns:
            Pooled maps, ``(out * squares, n)``.
        """
        maps, inputs = layer.weight.shape[:2]
        kernels = layer.weight.reshape(maps * inputs, 25) @ self.shifts.to(layer.weight.dtype)
        kernels = kernels.reshape(maps, inputs, 4, 36).transpose(1, 2).reshape(maps * 4, inputs * 36)
        assert layer.bias is not None
        bias = (-2 * layer.bias).repeat_interleave(4).unsqueeze(1)
        columns = x.index_select(0, patches).reshape(inputs * 36, -1)
        squares = torch.addmm(bias, kernels, columns).reshape(maps, 4, -1).sigmoid()
        return torch.rsub(squares.sum(1), 1, alpha=0.5).reshape(-1, x.shape[1])  # 1 - sum / 2


def build_model(reference: str, dataset: Dataset) -> nn.Module:
    """Build a model, with weights drawn from torch's generator.

    Args:
        reference: ``lenet5``, which adapts to the channels and classes of the data set, or the user's own module
            class or function without arguments, as ``net.py:make`` or ``package.module:make``.
        dataset: The data set that the model is trained on.

    Returns:
        The model, on the CPU.

    Raises:
        UsageError: If there is no such model, if it does not fit the data set, or if the function fails or
            returns something else.
    """
    check_model(reference)
    if is_user_code(reference):
        return _user_model(reference)
    match tuple(dataset.train_x.shape[1:]):
        case (channels, 32, 32):
            return LeNet5(channels, classes=len(dataset.classes))
        case shape:
            raise UsageError(
                f"model lenet5 takes images of 32 by 32, but the data set's examples have shape {shape};"
                " resize them, or use your own model, as net.py:make"
            )


def check_model(reference: str) -> None:
    """Raise UsageError unless the model, or the function that builds it, exists; nothing is built."""
    if is_user_code(reference):
        load_object(reference)
    elif reference != "lenet5":
        raise UsageError(_unknown("model", reference, "lenet5", "net.py:make"))


def load_loss(reference: str) -> Loss:
    """Return a loss: a function of outputs and targets that returns their mean loss.

    Args:
        reference: ``cross_entropy``, or the user's own function, as ``loss.py:name`` or ``package.module:name``.

    Raises:
        UsageError: If there is no such loss, or it is not a function.
    """
    if reference == "cross_entropy":
        return functional.cross_entropy
    if not is_user_code(reference):
        raise UsageError(_unknown("loss", reference, "cross_entropy", "loss.py:name"))
    loss: Loss = load_object(reference)
    if not callable(loss) or isinstance(loss, type):
        raise UsageError(
            f"loss {reference} is {_describe(loss)}; give a function of (outputs, targets) that returns the mean loss"
        )
    return loss


def _user_model(reference: str) -> nn.Module:
    if isinstance(load_object(reference), nn.Module):  # calling it would run the model
        raise UsageError(f"model {reference} is a module; give a function that builds a new one for each run")
    model = call(reference)
    if not isinstance(model, nn.Module):
        raise UsageError(f"model {reference} returned {_describe(model)}; it must return a torch.nn.Module")
    return model


def _unknown(kind: str, reference: str, known: str, example: str) -> str:
    hint = suggestion(reference, [known]) or f"; there is {known}"
    return f"{kind} '{reference}' is not known{hint}; write your own as {example}"


def _describe(value: object) -> str:
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"an object of type {type(value).__name__}"


def _shifts() -> Tensor:
    """Return the map from a 5 by 5 kernel to its 4 positions in a patch of 6 by 6, ``(25, 4 * 36)``, 0 and 1."""
    kernels = torch.eye(25).view(25, 1, 5, 5)
    shifted = [functional.pad(kernels, (x, 1 - x, y, 1 - y)) for y in (0, 1) for x in (0, 1)]
    return torch.cat(shifted, dim=1).flatten(1)


def _patches(maps: int, side: int) -> Tensor:
    """Return the indices of the inputs of all 6 by 6 patches of ``(maps, side, side)``, with stride 2.

    Returns:
        int64, flat, ordered by map, row and column within the patch, and row and column of the patch.
    """
    indices = torch.arange(maps * side * side).view(maps, side, side)
    return indices.unfold(1, 6, 2).unfold(2, 6, 2).permute(0, 3, 4, 1, 2).flatten()
