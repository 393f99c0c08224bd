"""The generator of the FDG-to-FMISO network of Zhao et al. 2025, written from its published configuration.

Zhao et al., Phys Imaging Radiat Oncol 2025, doi 10.1016/j.phro.2025.100769. A U-Net on one channel of 32 x 32 pixels:

    32  down_1 ----------------------------------------> concatenate -> attention -> up_1 -> tanh   32
    16      down_2 -------------------> concatenate -> up_2                                         16
     8          down_3 --------> up_3                                                                8
     4

Every convolution is 4 x 4 with stride 2 and padding 1. A leaky ReLU (0.2) stands before ``down_2`` and ``down_3``, a
ReLU before every ``up``. ``down_2``, ``up_3`` and ``up_2`` are followed by an instance normalisation that has neither
weights nor running statistics: it uses the mean and variance of the patch itself, in evaluation as in training. There
is no dropout. The attention weighs the channels by a function of their means (squeeze and excitation, Hu et al. 2018,
doi 10.1109/CVPR.2018.00745). No line and no weight of the published software is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import InputError, MissingPackageError

if TYPE_CHECKING:
    import torch

PATCH = 32
_WIDTH, _INNER, _SQUEEZED = 64, 128, 8
_OUTER = ("unet_block_3.", "model.")
_MIDDLE = ("unet_block_2.", *(f"{block}model.1." for block in _OUTER))
_INNERMOST = ("unet_block_1.", *(f"{block}model.3." for block in _MIDDLE))
# The published file names a layer by its place in nested blocks, and lists it once for every block it lies in.
_PUBLISHED = {
    "down_1": (_OUTER, "model.0"), "down_2": (_MIDDLE, "model.1"), "down_3": (_INNERMOST, "model.1"),
    "up_3": (_INNERMOST, "model.3"), "up_2": (_MIDDLE, "model.5"), "up_1": (_OUTER, "model.4"),
    "squeeze": (_OUTER, "model.3.excitation.0"), "excite": (_OUTER, "model.3.excitation.2"),
}  # fmt: skip


def make_generator() -> torch.nn.Module:
    """The network with random weights: (n, 1, 32, 32) in [-1, 1] to the same shape and range.

    Raises
    ------
    MissingPackageError
        If torch is not installed.
    """
    try:
        import torch
        from torch import nn
        from torch.nn import functional
    except ImportError as error:
        raise MissingPackageError("The MSKCC network needs the Python package torch.", "pip install torch") from error

    class Generator(nn.Module):
        """See the head of this file."""

        def __init__(self) -> None:
            super().__init__()
            self.down_1 = nn.Conv2d(1, _WIDTH, 4, 2, 1)
            self.down_2 = nn.Conv2d(_WIDTH, _INNER, 4, 2, 1)
            self.down_3 = nn.Conv2d(_INNER, _INNER, 4, 2, 1)
            self.up_3 = nn.ConvTranspose2d(_INNER, _INNER, 4, 2, 1)
            self.up_2 = nn.ConvTranspose2d(2 * _INNER, _WIDTH, 4, 2, 1)
            self.up_1 = nn.ConvTranspose2d(2 * _WIDTH, 1, 4, 2, 1)
            self.squeeze = nn.Linear(2 * _WIDTH, _SQUEEZED, bias=False)
            self.excite = nn.Linear(_SQUEEZED, 2 * _WIDTH, bias=False)

        def forward(self, patches: torch.Tensor) -> torch.Tensor:
            at_16 = self.down_1(patches)
            at_8 = functional.instance_norm(self.down_2(functional.leaky_relu(at_16, 0.2)))
            at_4 = self.down_3(functional.leaky_relu(at_8, 0.2))
            up_8 = functional.instance_norm(self.up_3(functional.relu(at_4)))
            up_16 = functional.instance_norm(self.up_2(functional.relu(torch.cat([at_8, up_8], 1))))
            joined = functional.relu(torch.cat([at_16, up_16], 1))
            weight = torch.sigmoid(self.excite(functional.relu(self.squeeze(joined.mean((2, 3))))))
            return torch.tanh(self.up_1(joined * weight[:, :, None, None]))

    return Generator().eval()


def published_names() -> dict[str, tuple[str, ...]]:
    """Own name of every tensor to its names in the published file."""
    names = {}
    for layer, (blocks, place) in _PUBLISHED.items():
        for kind in ("weight",) if layer in ("squeeze", "excite") else ("weight", "bias"):
            names[f"{layer}.{kind}"] = tuple(f"{block}{place}.{kind}" for block in blocks)
    return names


def own_state(published: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A published state dict under the names of ``make_generator``; every name must be there, and no other.

    Raises
    ------
    InputError
        Naming the tensors that are missing, left over, or differ between two names of one layer.
    """
    names = published_names()
    wanted = {name for several in names.values() for name in several}
    missing, extra = sorted(wanted - set(published)), sorted(set(published) - wanted)
    different = [
        name
        for first, *others in names.values()
        for name in others
        if not (missing or extra or _equal(published[first], published[name]))
    ]
    for word, found in (("lacks", missing), ("has unknown", extra), ("has two different tensors for", different)):
        if found:
            raise InputError(
                f"The state dict {word} {', '.join(map(str, found[:3]))}{' ...' if len(found) > 3 else ''}.",
                "It is not that of the published network: take latest_net_G.pth from the authors' repository.",
            )
    return {own: published[several[0]] for own, several in names.items()}


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    """True if two tensors have one shape and the same values."""
    return a.shape == b.shape and bool((a == b).all())
