"""The convolutions of the shipped network, as products with patches of the image."""

from dataclasses import dataclass

import torch
from torch import Tensor

STRIDE = 2


@dataclass(frozen=True)
class Convolution:
    """One layer of ``kernel`` x ``kernel`` windows, ``STRIDE`` apart.

    Attributes:
        kernel: side of a window.
        padding: zeros around the image.
        channels: of what comes out.
        sides: height and width of what comes out.
    """

    kernel: int
    padding: int
    channels: int
    sides: tuple[int, int]

    def patches(self, images: Tensor) -> Tensor:
        """``[W, C, b, height, width] -> [W, C * kernel^2, b * places]``: what each window sees, copied out."""
        border = [self.padding] * 4
        padded = torch.nn.functional.pad(images, border) if self.padding else images
        windows = padded.unfold(3, self.kernel, STRIDE).unfold(4, self.kernel, STRIDE)
        return windows.permute(0, 1, 5, 6, 2, 3, 4).reshape(len(images), images.shape[1] * self.kernel**2, -1)

    def gathered(self, patches: Tensor, images: Tensor) -> Tensor:
        """Transpose of ``patches``: add what stands in the windows up where they were taken from.

        Args:
            patches: ``[W, C * kernel^2, b * places]``.
            images: of the shape that comes out.
        """
        slots, channels, batch, height, width = images.shape
        border = 2 * self.padding
        total = patches.new_zeros(slots, channels, batch, height + border, width + border)
        down, across = (STRIDE * side for side in self.sides)
        windows = patches.view(slots, channels, self.kernel, self.kernel, batch, *self.sides)
        for i in range(self.kernel):
            for j in range(self.kernel):
                total[..., i : i + down : STRIDE, j : j + across : STRIDE] += windows[:, :, i, j]
        return total[..., self.padding : self.padding + height, self.padding : self.padding + width]


def layers_of(shape: tuple[int, ...]) -> tuple[Convolution, Convolution]:
    """8 and 16 channels; 5 x 5 kernels, or padded 3 x 3 ones below 20 pixels."""
    sides = (shape[1], shape[2])
    kernel, padding = (5, 0) if min(sides) >= 20 else (3, 1)
    layers = []
    for channels in (8, 16):
        height, width = ((side + 2 * padding - kernel) // STRIDE + 1 for side in sides)
        sides = (height, width)
        layers.append(Convolution(kernel, padding, channels, sides))
    return layers[0], layers[1]
