"""Resize MNIST images from 28 by 28 to 32 by 32, the input size of LeNet-5."""

from torch import Tensor
from torch.nn.functional import interpolate


def to_32(images: Tensor) -> Tensor:
    """Resize to 32 by 32 with antialiased bilinear filtering, bit-identical to PIL.

    The paper resizes image by image, through PIL. From 28 to 32 the filter's weights are multiples of 1/16, which
    the fixed-point numbers of PIL and of torch's kernel for uint8 both hold exactly, so that all bits agree.
    torchvision's ``resize`` of a tensor differs: without AVX2 it computes in float32.

    Args:
        images: uint8 of shape ``(n, c, 28, 28)``.

    Returns:
        uint8 of shape ``(n, c, 32, 32)``.
    """
    return interpolate(images, size=(32, 32), mode="bilinear", align_corners=False, antialias=True)
