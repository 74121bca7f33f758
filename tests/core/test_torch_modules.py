"""Every module of torch.nn's allow-list comes back with all its arguments, statistics and outputs."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from genalloy.core.spec import from_spec, to_spec
from genalloy.core.spec.torch_modules import _SKIPPED, ALLOWED
from genalloy.training.checkpoint import load, save

SOUND, IMAGE, VOLUME = (2, 4, 12), (2, 4, 12, 12), (2, 4, 8, 8, 8)
"""Of four channels."""
Case = tuple[str, dict[str, Any], tuple[int, ...]]
CONV: dict[str, Any] = {"in_channels": 4, "out_channels": 8, "kernel_size": 3}
SMALL: dict[str, Any] = {"input_size": 4, "hidden_size": 3}
RNN: dict[str, Any] = SMALL | {"num_layers": 2, "dropout": 0.25, "batch_first": True, "bidirectional": True}
BAG: dict[str, Any] = {"num_embeddings": 5, "embedding_dim": 3}
ALIGNED: dict[str, Any] = {"mode": "bilinear", "align_corners": True, "recompute_scale_factor": True}
NORM: dict[str, Any] = {"num_features": 4, "eps": 1e-3}


def sizes(name: str) -> tuple[int, ...]:
    return {"1": SOUND, "2": IMAGE, "3": VOLUME}["".join(c for c in name if c.isdigit())[-1]]


def each(names: str, *options: dict[str, Any]) -> list[Case]:
    return [(name, option, sizes(name)) for name in names.split() for option in options]


def plain(names: str, *options: dict[str, Any], shape: tuple[int, ...] = (2, 4)) -> list[Case]:
    return [(name, option, shape) for name in names.split() for option in options]


CASES: list[Case] = [
    *each("Conv1d Conv2d Conv3d", CONV | {"stride": 2, "padding": 1, "groups": 2, "bias": False, "padding_mode": "circular"}),
    *each("Conv1d Conv2d Conv3d", CONV | {"padding": "same", "dilation": 2, "padding_mode": "reflect"}),
    *plain("Conv2d", CONV | {"kernel_size": (3, 1), "stride": (1, 2), "padding": (1, 0), "dilation": (2, 1)}, shape=IMAGE),
    *each("ConvTranspose1d ConvTranspose2d ConvTranspose3d", CONV, CONV | {
        "stride": 3, "padding": 1, "output_padding": 2, "groups": 2, "bias": False, "dilation": 2, "padding_mode": "zeros"}),
    *each("BatchNorm1d BatchNorm2d BatchNorm3d", NORM, NORM | {"momentum": None}, NORM | {"momentum": 0.7, "affine": False},
          NORM | {"track_running_stats": False}, NORM | {"bias": False}),
    *each("InstanceNorm1d InstanceNorm2d InstanceNorm3d", NORM,
          NORM | {"affine": True, "track_running_stats": True, "momentum": 0.5},
          NORM | {"affine": True, "bias": False}),
    *each("MaxPool1d MaxPool2d MaxPool3d", {"kernel_size": 3}, {
        "kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "return_indices": True, "ceil_mode": True}),
    *each("AvgPool1d AvgPool2d AvgPool3d", {"kernel_size": 3},
          {"kernel_size": 3, "stride": 1, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
    *each("AvgPool2d AvgPool3d", {"kernel_size": 2, "divisor_override": 3}),
    *each("LPPool1d LPPool2d LPPool3d", {"norm_type": 3, "kernel_size": 2, "stride": 1, "ceil_mode": True}),
    *each("AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d", {"output_size": 3}),
    *each("AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d", {"output_size": 3, "return_indices": True}),
    *plain("AdaptiveAvgPool2d", {"output_size": (None, 3)}, shape=IMAGE),
    *each("FractionalMaxPool2d FractionalMaxPool3d", {"kernel_size": 2, "output_size": 3},
          {"kernel_size": 2, "output_ratio": 0.5, "return_indices": True}),
    *each("MaxUnpool1d MaxUnpool2d MaxUnpool3d", {"kernel_size": 3, "stride": 2, "padding": 1}),
    *each("ConstantPad1d ConstantPad2d ConstantPad3d", {"padding": 1, "value": 2.5}),
    *each("ZeroPad1d ZeroPad2d ZeroPad3d CircularPad1d CircularPad2d CircularPad3d", {"padding": 2}),
    *each("ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d", {"padding": 1}),
    *plain("ReflectionPad2d ZeroPad2d", {"padding": (0, 1, 2, 3)}, shape=IMAGE),
    *each("Dropout1d Dropout2d Dropout3d", {"p": 0.2, "inplace": True}),
    *plain("Dropout AlphaDropout FeatureAlphaDropout", {"p": 0.2, "inplace": True}),
    *plain("Linear", {"in_features": 4, "out_features": 3}, {"in_features": 4, "out_features": 1, "bias": False}),
    *plain("RNN", RNN | {"nonlinearity": "relu"}, {"input_size": 4, "hidden_size": 2, "bias": False}, shape=(2, 5, 4)),
    *plain("GRU LSTM", RNN, {"input_size": 4, "hidden_size": 2, "bias": False}, shape=(2, 5, 4)),
    *plain("LSTM", {"input_size": 4, "hidden_size": 3, "proj_size": 2}, shape=(2, 5, 4)),
    *plain("RNNCell", {"input_size": 4, "hidden_size": 3, "nonlinearity": "relu"}),
    *plain("RNNCell LSTMCell GRUCell", {"input_size": 4, "hidden_size": 3, "bias": False}),
    *plain("LayerNorm", {"normalized_shape": 4, "eps": 1e-2}, {"normalized_shape": (2, 4), "bias": False},
           {"normalized_shape": [4], "elementwise_affine": False}),
    *plain("RMSNorm", {"normalized_shape": (4,), "eps": 1e-2}, {"normalized_shape": 4, "elementwise_affine": False}),
    *plain("GroupNorm", {"num_groups": 2, "num_channels": 4, "eps": 1e-3}, {"num_groups": 1, "num_channels": 4, "affine": False},
           {"num_groups": 4, "num_channels": 4, "bias": False}, shape=IMAGE),
    *plain("LocalResponseNorm CrossMapLRN2d", {"size": 3, "alpha": 0.1, "beta": 0.5, "k": 2.0}, shape=IMAGE),
    *plain("Flatten", {"start_dim": 2, "end_dim": 3}, shape=IMAGE),
    *plain("Unflatten", {"dim": 1, "unflattened_size": (2, 2)}),
    *plain("PixelShuffle", {"upscale_factor": 2}, shape=IMAGE),
    *plain("PixelUnshuffle", {"downscale_factor": 3}, shape=IMAGE),
    *plain("ChannelShuffle", {"groups": 2}, shape=IMAGE),
    *plain("Upsample", {"size": 5}, {"scale_factor": 1.5} | ALIGNED,
           {"scale_factor": (2.0, 3.0), "mode": "bicubic"}, shape=IMAGE),
    *plain("UpsamplingNearest2d UpsamplingBilinear2d", {"scale_factor": 2}, {"size": (5, 7)}, shape=IMAGE),
    *plain("Unfold", {"kernel_size": 3, "dilation": 2, "padding": 1, "stride": 2}, shape=IMAGE),
    *plain("Fold", {"output_size": (3, 5), "kernel_size": (1, 2), "dilation": 2, "padding": 1, "stride": 2}, shape=(2, 4, 9)),
    *plain("ReLU ReLU6 SELU SiLU Mish Hardsigmoid Hardswish", {}, {"inplace": True}),
    *plain("Tanh Sigmoid Softsign Tanhshrink LogSigmoid Identity", {}),
    *plain("LeakyReLU", {"negative_slope": 0.3, "inplace": True}),
    *plain("ELU CELU", {"alpha": 0.5, "inplace": True}),
    *plain("PReLU", {"num_parameters": 4, "init": 0.1}),
    *plain("RReLU", {"lower": 0.2, "upper": 0.4, "inplace": True}),
    *plain("GELU", {"approximate": "tanh"}, {}),
    *plain("GLU Softmax Softmin LogSoftmax", {"dim": 0}),
    *plain("Softmax2d", {}, shape=IMAGE),
    *plain("Softplus", {"beta": 2.0, "threshold": 1.0}),
    *plain("Hardtanh", {"min_val": -0.5, "max_val": 0.25, "inplace": True}),
    *plain("Hardshrink Softshrink", {"lambd": 0.2}),
    *plain("Threshold", {"threshold": 0.1, "value": 7.0, "inplace": True}),
    *plain("Embedding", {"num_embeddings": 5, "embedding_dim": 3, "padding_idx": 2, "max_norm": 1.5, "norm_type": 1.0,
                         "scale_grad_by_freq": True}, {"num_embeddings": 5, "embedding_dim": 2, "sparse": True}),
    *plain("EmbeddingBag", BAG | {"max_norm": 1.5, "norm_type": 1.0, "scale_grad_by_freq": True},
           BAG | {"mode": "sum", "sparse": True, "include_last_offset": False, "padding_idx": 1}),
    *plain("MultiheadAttention", {"embed_dim": 4, "num_heads": 2, "dropout": 0.1, "bias": False, "batch_first": True},
           {"embed_dim": 4, "num_heads": 1, "add_bias_kv": True, "add_zero_attn": True, "kdim": 3, "vdim": 5}),
    *plain("Bilinear", {"in1_features": 4, "in2_features": 4, "out_features": 3}, {
        "in1_features": 4, "in2_features": 4, "out_features": 2, "bias": False}),
    *plain("CosineSimilarity", {"dim": 0, "eps": 1e-2}),
    *plain("PairwiseDistance", {"p": 1.0, "eps": 1e-2, "keepdim": True}),
]  # fmt: skip
CONTAINERS = {"Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"}


def inputs(name: str, shape: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    x = torch.randn(shape)
    if name.startswith("Embedding"):
        return (torch.tensor([[0, 1], [2, 4]]),)
    if name.startswith("MaxUnpool"):
        pool = getattr(nn, f"MaxPool{name[-2:]}")(3, 2, 1, return_indices=True)
        return pool(torch.randn(2, 4, *[7] * int(name[-2])))
    if name == "MultiheadAttention":
        return x.expand(3, 2, 4), torch.randn(3, 2, 4), torch.randn(3, 2, 4)
    return (x, torch.randn(shape)) if name in ("Bilinear", "CosineSimilarity", "PairwiseDistance") else (x,)


def outcome(module: nn.Module, x: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    torch.manual_seed(2)  # pooling at random places
    out = module(*(t.clone() for t in x))
    return [t.detach() for t in tree_leaves(out) if t is not None]


def settings(module: nn.Module) -> dict[str, Any]:
    kept = {k: v for k, v in vars(module).items() if not k.startswith("_") and k != "training"}
    return {k: v for k, v in kept.items() if isinstance(v, (bool, int, float, str, tuple, type(None)))}


@pytest.mark.parametrize(("name", "options", "shape"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_module_comes_back(name: str, options: dict[str, Any], shape: tuple[int, ...], tmp_path) -> None:
    torch.manual_seed(0)
    module = getattr(nn, name)(**options)
    x = inputs(name, shape)
    if not name.startswith(("MultiheadAttention", "FeatureAlpha")):
        module(*(t.clone() for t in x))  # statistics move
    if name == "MultiheadAttention" and "kdim" in options:
        x = (x[0], torch.randn(3, 2, 3), torch.randn(3, 2, 5))
    loaded = load(save(module, tmp_path / "module.safetensors"))
    assert type(loaded) is type(module) and repr(loaded) == repr(module)
    assert settings(loaded) == settings(module)
    assert all(p.requires_grad for p in loaded.parameters())
    for key, value in module.state_dict().items():
        assert loaded.state_dict()[key].dtype == value.dtype
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0)
    for a, b in zip(outcome(module.eval(), x), outcome(loaded, x), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def test_every_allowed_module_and_each_of_its_arguments_is_tried() -> None:
    assert {name for name, _, _ in CASES} | CONTAINERS == ALLOWED
    for name in ALLOWED - CONTAINERS - {"RNN", "LSTM", "GRU"}:
        parameters = inspect.signature(getattr(nn, name).__init__).parameters
        wanted = {p for p, v in parameters.items() if p not in _SKIPPED and v.kind not in (v.VAR_POSITIONAL, v.VAR_KEYWORD)}
        tried = {option for case, options, _ in CASES if case == name for option in options}
        assert tried >= wanted - {"bias", "momentum", "stride", "padding"} and tried <= wanted, name


class Holder(nn.Module):
    """Keeps what it is given."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.held = held


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Sequential(nn.Linear(3, 1))),
        lambda: nn.Sequential(),
        lambda: nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.ModuleList([nn.ReLU(), nn.Linear(3, 3)])}),
        lambda: nn.ParameterList([nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(2, 2), requires_grad=False)]),
        lambda: nn.ParameterDict({"a": nn.Parameter(torch.randn(3)), "b": nn.Parameter(torch.randn(()))}),
    ],
)
def test_containers_come_back(make: Any, tmp_path) -> None:
    torch.manual_seed(0)
    module = Holder(make())
    loaded = load(save(module, tmp_path / "module.safetensors"))
    assert repr(loaded) == repr(module) and list(loaded.state_dict()) == list(module.state_dict())
    for (name, a), (_, b) in zip(module.named_parameters(), loaded.named_parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, msg=name)
        assert isinstance(b, nn.Parameter) and a.requires_grad == b.requires_grad


def test_names_of_a_sequential_come_back() -> None:
    module = nn.Sequential()
    module.add_module("first", nn.Linear(2, 2))
    module.add_module("second", nn.ReLU())
    loaded = from_spec(*to_spec(module))
    assert list(loaded.state_dict()) == ["first.weight", "first.bias"] and repr(loaded) == repr(module)
