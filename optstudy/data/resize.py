"""Images of any size to 32 by 32, the size that LeNet-5 takes."""

from torch import Tensor
from torch.nn.functional import interpolate


def to_32(images: Tensor) -> Tensor:
    """Resize to 32 by 32 with antialiased bilinear filtering, whose bits are those of PIL.

    The paper resizes image by image, through PIL. torch's kernel for uint8 repeats PIL's fixed-point
    arithmetic, with and without AVX2. torchvision's ``resize`` of a tensor goes through float32 where there is
    no AVX2, and then differs.

    Args:
        images: uint8 of shape ``(n, c, h, w)``.

    Returns:
        uint8 of shape ``(n, c, 32, 32)``.
    """
    return interpolate(images, size=(32, 32), mode="bilinear", align_corners=False, antialias=True)
