"""Colour images, three channels: the masses of all tiny images sum to one, in whatever way the channels of a pixel follow."""

from __future__ import annotations

import pytest
import torch

from genalloy.heads.discrete import Categorical, LogisticMixture
from genalloy.heads.head import Head
from genalloy.laws.subject import perturb_parameters
from genalloy.models.autoregressive import Autoregressive
from genalloy.networks.causal.gated_pixelcnn import GatedPixelCNN, GatedStack
from genalloy.networks.causal.network import CausalNet, Pixels, Shift, Singles
from genalloy.networks.causal.pixel_rnn import DiagonalBiLSTM, RowLSTM
from genalloy.networks.causal.pixelcnn import MaskedStart, ResidualBlock
from genalloy.networks.causal.pixelsnail import PixelSNAIL
from genalloy.networks.causal.positions import PositionalEmbedding
from genalloy.networks.causal.wavenet import CausalConvolution
from genalloy.networks.input_embedding import OneHot

COLOUR, LEVELS, SIZE = (3, 1, 2), 3, (1, 2)
EVERY = torch.cartesian_prod(*[torch.arange(float(LEVELS))] * 6).reshape(-1, *COLOUR)
LAYERS = {
    "pixelcnn": ResidualBlock(4, SIZE),
    "pixelsnail": PixelSNAIL(4, SIZE),
    "row lstm": RowLSTM(4, SIZE),
    "diagonal bilstm": DiagonalBiLSTM(4, SIZE),
}


def network(name: str, width: int) -> torch.nn.Module:
    if name == "gated":
        return GatedPixelCNN(COLOUR, width, GatedStack(6, 2, places=2), entry=OneHot(LEVELS))
    if name == "raster":
        return CausalNet(
            COLOUR, width, Shift(4), [CausalConvolution(4, 3)], PositionalEmbedding((6,), 4), Singles(), OneHot(LEVELS)
        )
    tokens = Pixels((2, 0, 1))
    return CausalNet(
        COLOUR, width, MaskedStart(4, SIZE, 3, wrap=True), [LAYERS[name]], PositionalEmbedding(SIZE, 4), tokens, OneHot(LEVELS)
    )


@pytest.mark.parametrize("head", [Categorical(LEVELS), LogisticMixture(LEVELS, 2)], ids=["categorical", "logistics"])
@pytest.mark.parametrize("name", ["gated", "raster", *LAYERS])
@torch.no_grad()
def test_masses_of_colour_images_sum_to_one(name: str, head: Head) -> None:
    torch.manual_seed(0)
    part = perturb_parameters(Autoregressive(network(name, head.width), head, COLOUR), 0.3).double().eval()
    log_mass = part().density(EVERY.double()).value
    assert log_mass.std() > 0.01, "the test wants a law that is not uniform"
    assert abs(float(log_mass.exp().sum()) - 1) < 1e-9


@pytest.mark.parametrize("name", ["pixelcnn", "diagonal bilstm"])
def test_channels_follow_in_the_given_order(name: str) -> None:
    torch.manual_seed(0)
    net = network(name, LEVELS).double().eval()
    assert net.sequence[:3] == (4, 0, 2)
    x = EVERY[100].double()
    moved = x.clone()
    moved[1, 0, 1] = (x[1, 0, 1] + 1) % LEVELS  # the last channel of the last pixel: nothing may see it
    torch.testing.assert_close(net(x), net(moved), rtol=0, atol=0)
    moved = x.clone()
    moved[2, 0, 1] = (x[2, 0, 1] + 1) % LEVELS  # the first channel of the last pixel: the two others see it, nothing else
    changed = (net(x) - net(moved)).abs().sum(-1).flatten() > 0
    assert changed.tolist() == [False, True, False, True, False, False]
