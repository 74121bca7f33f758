"""Autoregressive models on the fixed binarised MNIST, and MADE on the benchmarks of binary rows."""

from __future__ import annotations

from genalloy.experiments.declare import Experiment, Method, PublishedNumber
from genalloy.experiments.verdict import AllOf, Better, Between

SETUP = "28x28, 50,000 training rows, trained to convergence"
BITS = "published splits, 500 units, early stopping"


def _binary(
    data: str, steps: int, floor: float, settings: dict[str, float], published: tuple[PublishedNumber, ...] = ()
) -> Experiment:
    """A MADE of one hidden layer of 500 units on rows of bits; regularised as the validation part asks for."""
    return Experiment(
        f"made-{data}",
        "autoregressive",
        "A masked autoencoder on binary rows",
        f"A MADE with one hidden layer of 500 units reaches {floor:g} nats on the test rows of {data}.",
        data,
        (Method("made", "made", {"quick": steps, "full": steps}, {"width": 500, "layers": 1, **settings}),),
        ("density", "cost"),
        ("density",),
        Between("made", "density", low=floor),
        {"quick": 2, "full": 2},
        published,
        group="made-bits",
    )


def _bits(value: float, masks: float | None = None) -> tuple[PublishedNumber, ...]:
    source = "Germain, Gregor, Murray & Larochelle, 2015"
    one = PublishedNumber("MADE, one mask", value, "nats", BITS, source)
    return (one,) if masks is None else (one, PublishedNumber("MADE, many masks", masks, "nats", BITS, source))


UPDATES = {"quick": 600, "full": 20_000}
PIXELS = (
    Method("made", "made", {"quick": 1500, "full": 20_000}),
    Method("pixelcnn", "pixelcnn", UPDATES),
    Method("gated-pixelcnn", "gated-pixelcnn", UPDATES),
    Method("pixelsnail", "pixelsnail", UPDATES),
)
RECURRENT = (
    Method("row-lstm, 2 layers, h = 32", "row-lstm", UPDATES),
    Method("diagonal, 1 layer, h = 32", "diagonal-bilstm", UPDATES, {"layers": 1, "hidden": 32}),
    Method("diagonal, 7 layers, h = 16", "diagonal-bilstm", UPDATES, {"layers": 7, "hidden": 16}),
)
SOURCE = "van den Oord, Kalchbrenner & Kavukcuoglu, 2016"


def _orders(side: int, data: str, minutes: float, setup: str) -> Experiment:
    """Masks, convolutions and attention. 28x28 is meant for the full budget: attention is slow there."""
    return Experiment(
        f"pixels-{side}",
        "autoregressive",
        "Masks, convolutions and attention over pixels",
        f"At {side}x{side} and after the same few updates, a PixelSNAIL has a higher likelihood than a PixelCNN, a gated "
        "PixelCNN one no lower to within a tenth of a nat, and each of them a higher one than a MADE.",
        data,
        PIXELS,
        ("density", "cost"),
        ("density",),
        AllOf(
            (
                Better("pixelsnail", "pixelcnn", "density"),
                Better("gated-pixelcnn", "pixelcnn", "density", -0.1),
                *(Better(c.name, "made", "density") for c in PIXELS[1:]),
            )
        ),
        {"quick": minutes, "full": 20 * minutes},
        (PublishedNumber("PixelCNN", -81.30, "nats", setup + "7 layers", SOURCE),),
    )


def _recurrences(side: int, data: str, minutes: float, setup: str) -> Experiment:
    """PixelRNN's rows, at the published depths of the diagonal one."""
    published = (("Row LSTM", -80.54, "7 layers"), ("Diagonal BiLSTM", -80.75, "1 layer, h = 32"))
    deep = ("Diagonal BiLSTM", -79.20, "7 layers, h = 16")
    return Experiment(
        f"pixel-rnn-{side}",
        "autoregressive",
        "Recurrences over pixels",
        f"At {side}x{side} and after the same few updates, Row LSTM and Diagonal BiLSTM have a higher likelihood than a MADE.",
        data,
        (PIXELS[0], *RECURRENT),
        ("density", "cost"),
        ("density",),
        AllOf(tuple(Better(c.name, "made", "density") for c in RECURRENT)),
        {"quick": minutes, "full": 20 * minutes},
        tuple(PublishedNumber(name, value, "nats", setup + depth, SOURCE) for name, value, depth in (*published, deep)),
    )


EXPERIMENTS = (
    Experiment(
        "pixelcnn-made",
        "autoregressive",
        "Convolutions against masks",
        "A gated PixelCNN of 0.1 million parameters has a higher likelihood than a MADE of 2.7 million, after fewer updates of "
        "fewer rows.",
        "static-mnist",
        (
            Method("made", "made", {"quick": 1500, "full": 20_000}),
            Method("gated-pixelcnn", "gated-pixelcnn", {"quick": 500, "full": 20_000}),
        ),
        ("density", "generation", "cost"),
        ("density",),
        Better("gated-pixelcnn", "made", "density"),
        {"quick": 20, "full": 900},
        (
            PublishedNumber("PixelCNN", -81.30, "nats", SETUP, "van den Oord, Kalchbrenner & Kavukcuoglu, 2016"),
            PublishedNumber("MADE, 2 hidden layers, 32 masks", -86.64, "nats", SETUP, "Germain et al., 2015"),
        ),
    ),
    _orders(14, "static-mnist-14", 45, "28x28 instead of 14x14, to convergence; "),
    _recurrences(14, "static-mnist-14", 40, "28x28 instead of 14x14, to convergence; "),
    _orders(28, "static-mnist", 240, "to convergence; "),
    _recurrences(28, "static-mnist", 240, "to convergence; "),
    _binary("dna", 2000, -84.0, {"dropout": 0.8, "rate": 1e-2, "decay": 0.1}, _bits(-83.63, -79.66)),
    _binary("nltcs", 3000, -6.3, {"dropout": 0.2, "rate": 1e-2, "decay": 0.01}),
    _binary("mushrooms", 3000, -10.2, {"dropout": 0.5, "rate": 5e-3, "decay": 0.1}, _bits(-9.68)),
    _binary("nips", 300, -279.7, {"dropout": 0.5, "rate": 3e-4, "decay": 1.0}, _bits(-280.25, -277.28)),
    _binary("plants", 4000, -12.65, {"dropout": 0.2, "rate": 5e-3, "decay": 0.01}),
)
