"""The torch.nn modules that a file may hold, and how their constructors' arguments are read off.

Nearly every torch.nn module keeps an argument as an attribute of the same name; the few that do not are listed here.
Left out are losses, lazy modules, what wraps devices (DataParallel) and whatever takes a function.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from torch import nn

_NAMES = (
    "Linear Bilinear Identity Flatten Unflatten Embedding EmbeddingBag MultiheadAttention"
    " Sequential ModuleList ModuleDict ParameterList ParameterDict"
    " Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d Fold Unfold"
    " RNN LSTM GRU RNNCell LSTMCell GRUCell"
    " BatchNorm1d BatchNorm2d BatchNorm3d InstanceNorm1d InstanceNorm2d InstanceNorm3d"
    " LayerNorm GroupNorm RMSNorm LocalResponseNorm CrossMapLRN2d"
    " MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d LPPool1d LPPool2d LPPool3d"
    " AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d"
    " FractionalMaxPool2d FractionalMaxPool3d MaxUnpool1d MaxUnpool2d MaxUnpool3d"
    " PixelShuffle PixelUnshuffle ChannelShuffle Upsample UpsamplingNearest2d UpsamplingBilinear2d"
    " ConstantPad1d ConstantPad2d ConstantPad3d ZeroPad1d ZeroPad2d ZeroPad3d CircularPad1d CircularPad2d CircularPad3d"
    " ReflectionPad1d ReflectionPad2d ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d"
    " Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout"
    " ReLU ReLU6 LeakyReLU PReLU RReLU ELU CELU SELU SiLU GELU Mish GLU Tanh Sigmoid Softplus Softsign Tanhshrink"
    " LogSigmoid Hardtanh Hardsigmoid Hardswish Hardshrink Softshrink Threshold"
    " Softmax Softmin Softmax2d LogSoftmax CosineSimilarity PairwiseDistance"
)
ALLOWED = frozenset(_NAMES.split())

_SKIPPED = {"self", "device", "dtype", "_weight", "_freeze", "_random_samples", "min_value", "max_value"}
"""Where and how a module is made is the file's matter; weights are stored as tensors; the last two are Hardtanh's old names."""

_RECURRENT = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")


def _numbered(module: nn.Sequential) -> dict[str, Any]:
    names = [str(i) for i in range(len(module))]
    return {"*": list(module) if list(module._modules) == names else [dict(module._modules)]}


def _attributes(*names: str) -> Callable[[Any], dict[str, Any]]:
    return lambda module: {name: getattr(module, name) for name in names}


_WHOLE: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Sequential": _numbered,
    "ModuleList": lambda m: {"modules": list(m)},
    "ModuleDict": lambda m: {"modules": dict(m.items())},
    "ParameterList": lambda m: {"values": list(m)},
    "ParameterDict": lambda m: {"parameters": dict(m.items())},
    "RNN": _attributes(*_RECURRENT, "nonlinearity"),
    "GRU": _attributes(*_RECURRENT),
    "LSTM": _attributes(*_RECURRENT, "proj_size"),
}
"""Modules whose signature does not name its arguments."""


def _bias(module: Any) -> bool:
    """A flag, or a parameter that is there; without any weight (affine=False) the default."""
    return module.bias if isinstance(module.bias, bool) else module.bias is not None or module.weight is None


_READ: dict[str, Callable[[Any], Any]] = {
    "bias": _bias,
    "MultiheadAttention.bias": lambda m: m.in_proj_bias is not None,
    "PairwiseDistance.p": lambda m: m.norm,
    "add_bias_kv": lambda m: m.bias_k is not None,
}
"""Arguments, of one class or of all, that are no attribute of their name."""


def allowed(cls: type) -> bool:
    """Whether a class is one of torch.nn's that a file may hold."""
    return cls.__name__ in ALLOWED and getattr(nn, cls.__name__) is cls


def read_arguments(module: nn.Module, name: str) -> dict[str, Any]:
    """Constructor arguments of a torch.nn module, `name` being the class that defines its constructor."""
    if name in _WHOLE:
        return _WHOLE[name](module)
    parameters = inspect.signature(getattr(nn, name).__init__).parameters.values()
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    wanted = [p.name for p in parameters if p.name not in _SKIPPED and p.kind not in variadic]
    return {n: _read(module, name, n) for n in wanted}


def _read(module: nn.Module, name: str, argument: str) -> Any:
    read = _READ.get(f"{name}.{argument}", _READ.get(argument))
    return getattr(module, argument) if read is None else read(module)


def positional(cls: type, values: list[Any]) -> list[Any]:
    """A Sequential with names takes them in an OrderedDict."""
    return [OrderedDict(values[0])] if cls is nn.Sequential and values and isinstance(values[0], dict) else values
