"""The convolutions of the shipped network, as products with patches of the image.

Images stand as ``[W, C * height * width, b]``, the batch innermost: a patch is copied in runs of a whole batch.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

STRIDE = 2


@dataclass(frozen=True)
class Convolution:
    """One layer of ``kernel`` x ``kernel`` windows, ``STRIDE`` apart.

    Attributes:
        kernel: side of a window.
        padding: zeros around the image.
        seen: channels, height and width of what goes in.
        channels, sides: the same of what comes out.
    """

    kernel: int
    padding: int
    seen: tuple[int, int, int]
    channels: int

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of what comes out."""
        _, height, width = self.seen
        reach = 2 * self.padding - self.kernel
        return (height + reach) // STRIDE + 1, (width + reach) // STRIDE + 1

    def patches(self, images: Tensor) -> Tensor:
        """``[W, C * height * width, b] -> [W, C * kernel^2, windows * b]``: what each window sees, copied out."""
        if self.padding:
            images = torch.nn.functional.pad(images, [0, 0, 0, 1])
        taken = images.index_select(1, _places(self, images.device))
        return taken.view(len(images), self.seen[0] * self.kernel**2, -1)

    def gathered(self, patches: Tensor, batch: int) -> Tensor:
        """Transpose of ``patches``: add what stands in the windows up where they were taken from."""
        pixels = self.seen[0] * self.seen[1] * self.seen[2]
        total = patches.new_zeros(len(patches), pixels + 1, batch)
        total.index_add_(1, _places(self, patches.device), patches.view(len(patches), -1, batch))
        return total[:, :pixels]


@lru_cache
def _places(layer: Convolution, device: torch.device) -> Tensor:
    """``[C * kernel^2 * windows]`` the pixel at each place of each window; one past the last stands for padding."""
    channels, height, width = layer.seen
    pixels = torch.arange(channels * height * width).view(layer.seen)
    bordered = torch.nn.functional.pad(pixels, [layer.padding] * 4, value=pixels.numel())
    windows = bordered.unfold(1, layer.kernel, STRIDE).unfold(2, layer.kernel, STRIDE)
    return windows.permute(0, 3, 4, 1, 2).flatten().to(device)


@lru_cache
def layers_of(shape: tuple[int, ...]) -> tuple[Convolution, Convolution]:
    """8 and 16 channels; 5 x 5 kernels, or padded 3 x 3 ones below 20 pixels."""
    kernel, padding = (5, 0) if min(shape[1:]) >= 20 else (3, 1)
    first = Convolution(kernel, padding, (shape[0], shape[1], shape[2]), 8)
    return first, Convolution(kernel, padding, (8, *first.sides), 16)
