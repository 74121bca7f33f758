"""The columns of a comparison's table, and what each label means."""
# ruff: noqa: E501 (one line a column reads as a table)

from __future__ import annotations

from dataclasses import replace

from genalloy.core.schema import Column
from genalloy.data.space import Space


def columns(space: Space) -> list[Column]:
    """Columns for a data space; the density's unit depends on it."""
    unit, better = ("bits/dim", "low") if space.in_bits else ("nats", "high")
    title = "bits per dimension" if space.in_bits else "log-likelihood"
    density = [
        Column(
            "density",
            title,
            "density",
            better,
            unit,
            f"{space.measure_text}; whole test part. Tightest number the model can give: exact where it is, otherwise a bound "
            "(importance-weighted where that is allowed). The sign in front is the claim; \u00b1 is one standard error over test rows, over seeds where there are several.",
        ),
        Column(
            "bound",
            f"{title}, one draw",
            "density",
            better,
            unit,
            "The model's own density() without importance weighting: the ELBO of a latent-variable model, one dequantisation "
            "draw of a flow. Equal to the first column where the density is exact.",
        ),
    ]
    given = [_conditional(c) for c in (*_per_step(space), density[0])]
    return [*_per_step(space), *density, *given, *_GENERATION, *_OTHERS]


def _conditional(column: Column) -> Column:
    """The same number given the row's label."""
    name = {"density": "conditional", "per_step": "conditional_step"}[column.id]
    note = f"log p(x | label) of models that take the label: what it tells is not in the number, so it is not to be compared with log p(x). {column.note}"
    return replace(column, id=name, title=f"{column.title}, given the label", note=note)


def _per_step(space: Space) -> tuple[Column, ...]:
    """The density per character of a text, per step of sequences of unequal lengths."""
    ratio = "Total over total: long rows weigh more. \u00b1 is one standard error over rows."
    if space.kind == "text":
        note = f"Of the original text, whatever its tokens; a mass of byte-pair tokens is a LOWER bound of the text's. {ratio}"
        return (Column("per_step", "bits per character", "density", "low", "bits/char", note),)
    note = f"{space.measure_text}; a row's length is given, not modelled. {ratio}"
    return (Column("per_step", "log-likelihood a time step", "density", "high", "nats/step", note),) if space.unequal else ()


_GENERATION = (
    Column("kernel_distance", "kernel distance", "generation", "low", "", "Unbiased squared maximum mean discrepancy, cubic polynomial kernel, samples against test rows in the named feature space; 0 is the data's law."),
    Column("frechet", "Fr\u00e9chet distance", "generation", "low", "", "Between Gaussians fitted to features of samples and of test rows; biased upwards at small n, so read it beside the reference rows."),
    Column("precision", "precision", "generation", "high", "", "Share of samples inside the test rows' k-nearest-neighbour balls."),
    Column("recall", "recall", "generation", "high", "", "Share of test rows inside the samples' balls."),
    Column("prdc_density", "density (PRDC)", "generation", "high", "", "Like precision, counting how many balls a sample is in; may exceed 1."),
    Column("coverage", "coverage", "generation", "high", "", "Share of test rows whose ball holds a sample."),
    Column("c2st", "two-sample accuracy", "generation", "low", "", "Held-out accuracy of a classifier that tells samples from test rows; 0.5: it cannot."),
    Column("authenticity", "authenticity", "generation", "", "", "Share of samples farther from their nearest training row than that row is from its own neighbour; near 0 is memorisation."),
    Column("copying", "copying", "generation", "", "", "Chance that a sample is nearer to the training rows than a test row is: 0.5 is right, near 1 is memorisation."),
    Column("top_probability", "classifier confidence", "generation", "high", "", "Mean largest class probability of a classifier trained on the training part; the test rows' own value stands in the reference rows."),
    Column("classes", "classes", "generation", "high", "", "Classes that at least 1 % of the samples belong to."),
)  # fmt: skip

_OTHERS = (
    Column("probe", "linear probe", "representation", "high", "", "Accuracy of a logistic regression on the model's codes; compare with pixels and PCA among the baselines."),
    Column("accuracy", "label accuracy", "representation", "high", "", "Share of test rows whose most likely label under the model's own p(label | x) is the true one, with the binomial standard error."),
    Column("sample_accuracy", "label accuracy of samples", "representation", "high", "", "Share of samples that a classifier takes for the label they were given; what it is worth on test rows stands in the cell."),
    Column("outliers", "outlier AUROC", "outliers", "high", "", "How well log-density separates test rows from a named other set; compare with the complexity-only baseline."),
    Column("train_seconds", "training", "cost", "low", "s", "Wall-clock seconds of training on one thread, validation included."),
    Column("sample_seconds", "1,000 samples", "cost", "low", "s", "Wall-clock seconds to draw 1,000 samples on one thread."),
    Column("density_seconds", "1,000 densities", "cost", "low", "s", "Wall-clock seconds of density() for 1,000 rows on one thread."),
    Column("sample_evaluations", "evaluations", "cost", "low", "", "Network calls to draw one batch of samples, whatever its size; a cached autoregressive step counts as one."),
    Column("parameters", "parameters", "cost", "low", "", "Parameters of the model alone; a critic's are not counted."),
    Column("memory", "peak memory", "cost", "low", "MiB", "Peak resident memory of the process during training and sampling."),
)  # fmt: skip

LABELS = {
    "EXACT": "The number is log p(x) itself.",
    "LOWER": "log p(x) is at least this; in bits per dimension, the truth is at most the number shown.",
    "UPPER": "log p(x) is at most this; in bits per dimension, the truth is at least the number shown.",
    "UNBIASED": "Random, but right on average.",
    "ESTIMATE": "Close to log p(x), on an unknown side (solver tolerance, mixed bounds); never ranked.",
    "NONE": "There is no number: the model has no density, or none that can be normalised here.",
}
