"""The ranking rule, the summary's words, charts and pictures."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import report_fake as fake
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from genalloy.core.evidence import Kind
from genalloy.core.schema import Column, Comparison, Number, Row, number_from, read_comparison
from genalloy.evaluation.ranking import better_than, bounds
from genalloy.report import charts, pictures, renderers, scatter, summary
from genalloy.report.figures import fit, kept
from genalloy.report.numbers import number
from genalloy.report.scatter import front
from genalloy.report.table_cells import in_words, mark_of, ranks, relation, show

BITS = Column("bpd", "bits/dim", "density", "low", "bits/dim")
NATS = Column("nats", "log p", "density", "high", "nats")
KID = Column("kid", "distance", "generation", "low")


def spot(name: str, x: float, y: float, kind: str = "model", claim: Kind = Kind.EXACT) -> Row:
    return Row(name, "flow", kind, cells={"bpd": Number(x, kind=claim), "nats": Number(x, kind=claim), "kid": Number(y)})


def made(tmp_path: Path, rows: list) -> Comparison:
    return read_comparison(fake.write(tmp_path, rows) / "comparison.json")


def bound(value: float, kind: str, stderr: float = 0.01) -> dict:
    return {"cells": {"bpd": fake.cell(value, kind=kind, stderr=stderr)}}


@pytest.mark.parametrize(
    ("kind", "low_is_better", "high_is_better"),
    [("EXACT", "=", "="), ("LOWER", "\u2264", "\u2265"), ("UPPER", "\u2265", "\u2264")],
)
def test_the_sign_turns_with_the_column_but_the_label_does_not(kind: str, low_is_better: str, high_is_better: str) -> None:
    assert relation(Kind(kind), BITS.sign) == low_is_better
    assert relation(Kind(kind), NATS.sign) == high_is_better
    assert show(Number(2.0, kind=Kind(kind)), BITS).sign == low_is_better
    assert show(Number(-9.0, kind=Kind(kind)), NATS).kind == kind


def test_text_is_made_of_the_number_and_its_unit() -> None:
    seen = show(Number(2.03, 0.02, kind=Kind.LOWER, unit="bits/dim"), BITS)
    assert (seen.sign, seen.main, seen.error) == ("\u2264", "2.030", "0.020")
    assert show(Number(-3.0), NATS).main == "\u22123"
    assert in_words(Number(-3.0, 0.01, kind=Kind.LOWER, unit="nats")) == "\u2265 -3.000 \u00b1 0.010"
    assert in_words(Number(2.0, 0.01, kind=Kind.LOWER, unit="bits/dim", seeds=(1.0, 3.0))) == "\u2264 2 \u00b1 0.01"
    assert in_words(Number(12345)) == "12,345" and in_words(Number(0.1234, unit="s")) == "0.123 s"
    assert in_words(Number(missing="no codes")) == "n/a (no codes)"


def test_strict_rule_of_the_ends() -> None:
    exact, lower, upper = (Number(v, 0.01, kind=k) for v, k in ((2.0, Kind.EXACT), (1.9, Kind.LOWER), (2.3, Kind.UPPER)))
    assert better_than(lower, exact, -1.0)
    assert not better_than(Number(1.5, kind=Kind.EXACT), lower, -1.0)
    assert better_than(exact, upper, -1.0)
    assert not better_than(Number(1.0, kind=Kind.ESTIMATE), exact, -1.0)
    assert bounds(exact, -1.0) == pytest.approx((-2.02, -1.98))


def test_a_label_that_is_not_known_claims_nothing() -> None:
    surely, exact = (number_from({"value": v, "kind": kind}) for v, kind in ((1.0, "SURELY"), (2.0, "EXACT")))
    assert not better_than(surely, exact, -1.0)
    assert better_than(Number(1.0), Number(2.0), -1.0)


@pytest.mark.parametrize(
    ("number", "sign", "ends"),
    [
        (Number(2.0, low=1.7, high=2.1, kind=Kind.EXACT), -1.0, (-2.1, -1.7)),
        (Number(2.0, low=1.7, high=2.1, kind=Kind.EXACT), 1.0, (1.7, 2.1)),
        (Number(2.0, low=3.0, high=1.0, stderr=0.1, kind=Kind.EXACT), -1.0, (-2.2, -1.8)),
        (Number(2.0, low=1.7, high=2.1, kind=Kind.LOWER), -1.0, (-2.1, math.inf)),
        (Number(), -1.0, (-math.inf, math.inf)),
    ],
)
def test_stated_ends_are_used_and_impossible_ones_are_not(number: Number, sign: float, ends: tuple[float, float]) -> None:
    assert bounds(number, sign) == pytest.approx(ends)


def test_columns_are_ordered_by_certified_ends(tmp_path: Path) -> None:
    rows = [
        fake.row("guess", **bound(1.0, "ESTIMATE")),
        fake.row("upper", **bound(1.1, "UPPER")),
        fake.row("noisy", **bound(1.99, "EXACT", 0.1)),
    ]
    rows += [
        fake.row("sure", **bound(2.0, "LOWER", 0.001)),
        fake.row("none", cells={"bpd": fake.cell(missing="x")}),
    ]
    these = made(tmp_path, rows).rows
    order = dict(zip((r.recipe for r in these), ranks(these, BITS), strict=True))
    assert sorted(order, key=lambda name: order[name] or "z") == [
        "sure",
        "noisy",
        "guess",
        "upper",
        "none",
    ]


def test_summary_claims_what_the_rule_allows(tmp_path: Path) -> None:
    words = " ".join(summary.density_words(made(tmp_path, fake.rows())))
    assert "best density by its bound is bounded\u2019s: at most 1.900 \u00b1 0.010 bits/dim (lower bound)" in words
    assert "At two standard errors it is separated from exact-one, above and" in words
    assert "not separated from guess" in words


def test_summary_does_not_rank_an_exact_value_above_a_bound(tmp_path: Path) -> None:
    words = " ".join(
        summary.density_words(made(tmp_path, [fake.row("a", **bound(1.9, "EXACT")), fake.row("b", **bound(2.5, "LOWER"))]))
    )
    assert "At two standard errors it is not separated from b: a lower bound may hide a better true value." in words


def test_summary_without_any_certified_density(tmp_path: Path) -> None:
    words = summary.density_words(made(tmp_path, [fake.row("a", **bound(1.9, "ESTIMATE"))]))
    assert words == ["No model on this page bounds its log-density from below: there is nothing to rank by likelihood."]


@pytest.mark.parametrize(("seeds", "claimed"), [(1, False), (3, True)])
def test_quality_is_a_claim_only_with_three_seeds(tmp_path: Path, seeds: int, claimed: bool) -> None:
    good = [fake.row("good", seed=s, cells={"kid": fake.cell(0.001, stderr=0.001)}) for s in range(seeds)]
    [words] = summary.quality_words(made(tmp_path, [*good, fake.row("poor", seed=0)]))
    assert words.startswith("Closest samples by kernel distance: good")
    assert ("not separated" not in words) == claimed


def test_tiles_and_sentence_name_the_same_row(tmp_path: Path) -> None:
    rows = [fake.row(n, cells={"kid": fake.cell(v, stderr=e)}) for n, v, e in (("noisy", 0.1, 0.2), ("calm", 0.2, 0.01))]
    comparison = made(tmp_path, rows)
    tile = next(t for t in summary.tiles(comparison) if t.title == "Lowest kernel distance")
    assert tile.row.recipe == "noisy"
    assert "kernel distance: noisy" in summary.quality_words(comparison)[0]


def test_failed_rows_do_not_lead(tmp_path: Path) -> None:
    rows = [fake.row("dead", error="boom", **bound(0.1, "EXACT")), fake.row("alive", **bound(2.0, "EXACT"))]
    assert "alive" in summary.density_words(made(tmp_path, rows))[0]


def test_overview_counts_families_without_combinations(tmp_path: Path) -> None:
    rows = [
        fake.row("a", "flow"),
        fake.row("b", "latent"),
        fake.row("c", "combination"),
        fake.row("g", "baseline", "baseline"),
    ]
    words = summary.overview(made(tmp_path, rows))
    assert words.startswith("3 generative models from 2 families and their combinations, and 1 baseline")
    assert "1,437 images of 4 \u00d7 4 (digits) and measured on 360" in words


@pytest.mark.parametrize("x", [BITS, NATS])
def test_front_against_brute_force(x: Column) -> None:
    rng = np.random.default_rng(1)
    able = [spot(str(i), float(x), float(y)) for i, (x, y) in enumerate(rng.normal(size=(40, 2)))]
    points = [*able, spot("hollow", -9.0, -9.0, "model", Kind.ESTIMATE), spot("grey", -9.0, -9.0, "baseline")]

    def ahead(q: Row, p: Row) -> bool:
        return x.sign * q.cell(x).value >= x.sign * p.cell(x).value and q.cell(KID).value <= p.cell(KID).value

    wanted = {p.recipe for p in able if not any(ahead(q, p) for q in able if q is not p)}
    assert {p.recipe for p in front(points, x, KID)} == wanted


@pytest.mark.parametrize("values", [[1.0, 2.0], [0.001, 5.0, 900.0], [-0.001, 0.002, 0.003, 4.0], [3.0], [0.0], [-1e-9, 1e9]])
def test_scales_are_increasing_and_hold_their_values_and_ticks(values: list[float]) -> None:
    axes = Figure().add_subplot()
    fit(axes.yaxis, values)
    low, high = axes.get_ylim()
    places = axes.yaxis.get_transform().transform(sorted(values))
    assert list(places) == sorted(places) and np.isfinite(places).all()
    assert low < min(values) and max(values) < high
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    labels = axes.yaxis.get_major_formatter().format_ticks(ticks)
    assert len(ticks) >= 2 and len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("values", "scale"),
    [([1.0, 2.0], "linear"), ([0.001, 5.0, 900.0], "log"), ([-0.001, 0.002, 0.003, 4.0], "asinh"), ([2.0, 60.1], "log")],
)
def test_an_axis_is_warped_only_where_its_values_span_much(values: list[float], scale: str) -> None:
    axes = Figure().add_subplot()
    fit(axes.xaxis, values)
    assert axes.get_xscale() == scale


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0"),
        (1234567.0, "1.2e6"),
        (9.96e6, "1e7"),
        (-0.00123, "\u22120.00123"),
        (2500.0, "2,500"),
        (1e-7, "1e\u22127"),
        (math.nan, "n/a"),
        (100.0, "100"),
    ],
)
def test_numbers_for_people(value: float, said: str) -> None:
    assert number(value) == said


def curves(drawn: str) -> list[str]:
    """The paths of a chart's curves."""
    return [part.split('"')[0] for part in drawn.split('<g class="curve"><path d="')[1:]]


def test_line_chart_breaks_at_nan_and_needs_two_points() -> None:
    [path] = curves(charts.line_chart({"train": [(0, 1.0), (1, math.nan), (2, 1.0), (3, 2.0)]}, "t", "u"))
    assert path.count("M") == 2 and path.count("L") == 1
    assert charts.line_chart({"train": [(0, 1.0), (1, math.nan)]}, "t", "u") == ""


def test_the_first_steps_do_not_flatten_a_curve() -> None:
    assert charts.robust_range([1e9, *np.linspace(1.0, 2.0, 99)]) == (pytest.approx(1.0, abs=0.02), 2.0)
    assert charts.robust_range([3.0, 1.0, 9.0]) == (1.0, 9.0)
    assert len(charts.thin([(i, 0.0) for i in range(1000)])) == 300
    assert charts.thin([(i, 0.0) for i in range(1000)])[-1] == (999, 0.0)


def test_labels_of_a_scatter_do_not_cover_each_other() -> None:
    axes = Figure((5, 4), dpi=72).add_subplot()
    notes = [axes.annotate("label", (0.5 + 0.006 * i, 0.5), (0, 0), textcoords="offset points", va="center") for i in range(6)]
    taken: list[Bbox] = []
    for note in notes:
        scatter.place(note, scatter.AROUND, taken, axes.bbox)
    boxes = [note.get_window_extent() for note in notes]
    assert np.allclose([box.extents for box in boxes], [box.extents for box in taken], atol=1)
    assert all(box.count_overlaps(boxes[:i]) == 0 for i, box in enumerate(boxes))
    assert all(axes.bbox.padded(9).contains(*corner) for box in boxes for corner in box.corners())


def test_a_scatter_has_shapes_and_hollow_points_and_whiskers_and_a_front() -> None:
    rows = [
        spot("a", 2.0, 0.03),
        spot("b", 2.2, 0.01),
        spot("c", 1.9, 0.02, "model", Kind.UPPER),
        spot("g", 2.1, 0.02, "baseline"),
    ]
    rows[0], rows[2] = (replace(rows[i], family="latent") for i in (0, 2))
    rows[2].cells["bpd"] = Number(1.9, 0.05, kind=Kind.UPPER)
    rows.append(Row("floor", kind="reference", cells={"kid": Number(0.012)}))
    drawn = scatter.scatter(rows, BITS, KID, "u")
    titles = (
        ">Latent<",
        ">Flow<",
        ">bits/dim \u00b7 lower is better<",
        ">distance \u00b7 lower is better<",
        "On the front: a, b.",
    )
    assert [drawn.count(said) for said in (">a<", ">b<", ">c<", ">g<", ">floor<", *titles)] == [1] * 10
    assert '<g class="dot"><title>a: bits/dim 2.000 bits/dim (exact), distance 0.03</title>' in drawn
    assert [drawn.count(f'<g class="{kind}">') for kind in ("dot", "dot hollow", "dot muted")] == [2, 1, 1]
    assert [drawn.count(f'<g class="{kind}">') for kind in ("whisker", "level", "front")] == [1, 1, 1]
    hollow = drawn[drawn.index('"dot hollow"') :]
    assert "fill: var(--card); stroke: var(--f1)" in hollow.split("<use")[1]
    marks = {
        slot: drawn[drawn.index(f"<title>{name}: ") :].split('<path id="')[1].split('"')[2] for slot, name in enumerate("ab")
    }
    assert marks[0] != marks[1]


def test_what_lies_between_drawn_values_is_drawn() -> None:
    # 0.005 alone would turn the axis logarithmic and push the models together; with -0.02 drawn it costs nothing
    assert kept([0.06, 0.29], [0.005]) == [False]
    assert kept([0.06, 0.29], [-0.02, 0.005, 9.0]) == [True, True, False]


def test_far_baselines_are_named_rather_than_drawn() -> None:
    rows = [spot("a", 2.0, 0.01), spot("b", 2.1, 0.02), spot("near", 2.05, 0.015, "baseline"), spot("far", 9.0, 0.01, "baseline")]
    low, close = (Row(name, kind="reference", cells={"kid": Number(v)}) for name, v in (("low", 0.0001), ("close", 0.009)))
    near, levels = scatter.on_chart(rows, [low, close], BITS, KID)
    assert [row.recipe for row in near] == ["a", "b", "near"]
    assert [row.recipe for row in levels] == ["close"]
    drawn = scatter.scatter([*rows, low], BITS, KID, "u")
    assert "Off the chart: far, low (0.0001)" in drawn


def test_grid_keeps_pixels_order_and_paints_what_is_not_finite() -> None:
    images = np.zeros((1, 2, 1, 2, 2))
    images[0, 1] = 16.0
    images[0, 0, 0, 0, 0] = np.nan
    sheet = Image.open(io.BytesIO(pictures.grid(images, (0.0, 16.0))))
    assert sheet.getpixel((2, 2)) == (*pictures.CRIMSON, 255)
    assert sheet.getpixel((2, sheet.height - 2)) == (0, 0, 0, 255)
    assert sheet.getpixel((sheet.width - 2, 2)) == (255, 255, 255, 255)
    assert sheet.getpixel((sheet.width // 2, 2))[3] == 0


def test_heat_map_has_y_upwards_along_its_rows() -> None:
    log_density = np.full((10, 10), -np.inf)
    log_density[0, 9] = 0.0
    window = pictures.Window(0.0, 1.0, 0.0, 1.0)
    drawn = Image.open(io.BytesIO(pictures.heat(log_density, window, window, 0.0))).convert("L")
    assert drawn.getpixel((drawn.width - 5, drawn.height - 5)) > 200
    assert max(drawn.getpixel((x, y)) for x, y in ((5, 5), (5, drawn.height - 5), (drawn.width - 5, 5))) < 20


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (3, 4, 5), (4, 5, 3), (2, 4, 5)])
def test_pixels_of_any_layout(shape: tuple[int, ...]) -> None:
    tile = pictures.pixels(np.ones(shape), (0.0, 1.0))
    assert tile.shape[-1] == 3
    assert (tile == 255).all()


@pytest.mark.parametrize("width", [1, 2, 7])
def test_vectors_of_any_width_have_a_lens(width: int) -> None:
    x = np.random.default_rng(0).normal(size=(60, width))
    lens = renderers.renderer_for((width,), {"data": x}, None)
    assert lens is not None
    [drawn] = lens.samples(x + 100.0, "far away")
    assert Image.open(io.BytesIO(drawn.png)).size == drawn.size
    assert width == 1 or "60 of 60 lie outside" in drawn.caption


def test_best_is_a_claim_and_leads_is_not(tmp_path: Path) -> None:
    rows = [fake.row("a", **bound(1.9, "LOWER")), fake.row("b", **bound(2.5, "EXACT"))]
    these = made(tmp_path, rows).rows
    assert [mark_of(r, these, BITS) for r in these] == ["best", ""]
    rows = [
        fake.row("a", **bound(1.9, "EXACT")),
        fake.row("b", **bound(2.5, "LOWER")),
        fake.row("c", **bound(1, "ESTIMATE")),
    ]
    these = made(tmp_path, rows).rows
    assert [mark_of(r, these, BITS) for r in these] == ["leads", "", ""]
    seconds = Column("train", "training", "cost", "low", "s")
    assert [mark_of(r, these, seconds) for r in these] == ["", "", ""]


def test_quality_columns_are_led_never_won(tmp_path: Path) -> None:
    distance = Column("kid", "kernel distance", "generation", "low")
    rows = [fake.row(n, cells={"kid": fake.cell(v, stderr=1e-6)}) for n, v in (("a", 0.1), ("b", 0.2))]
    these = made(tmp_path, rows).rows
    assert [mark_of(r, these, distance) for r in these] == ["leads", ""]


@pytest.mark.parametrize(
    ("kind", "shape"), [("image", (9, 1, 4, 4)), ("points", (50, 2)), ("table", (20, 5)), ("points", (30, 1))]
)
def test_samples_of_any_kind_as_one_png(kind: str, shape: tuple[int, ...]) -> None:
    png = pictures.picture(kind, np.random.default_rng(0).normal(size=shape).astype(np.float32))
    drawn = Image.open(io.BytesIO(png))
    drawn.load()
    assert drawn.size == pictures.size_of(png)
    assert np.asarray(drawn)[..., 3].any()


def test_comparison_survives_nulls(tmp_path: Path) -> None:
    raw = {
        "format": 2,
        "rows": [{"recipe": "bare", "cells": {"bpd": None}, "curves": None, "notes": None}],
        "columns": None,
    }
    (tmp_path / "comparison.json").write_text(json.dumps(raw))
    [row] = read_comparison(tmp_path / "comparison.json").rows
    assert (row.recipe, row.cells, row.curves) == ("bare", {}, {})


def test_a_loss_that_falls_below_zero_off_a_logarithmic_axis_is_drawn() -> None:
    curve = [(float(i), 1000.0 * 0.8**i + 1.0) for i in range(60)] + [(60.0, -5.0)]
    [path] = curves(charts.line_chart({"model": curve}, "Loss", "x"))
    assert path.count("L") > 10


def test_a_conditional_density_never_leads_the_column_of_log_p_of_x(tmp_path: Path) -> None:
    """ln 10 nats better by being told the label: not a better model."""
    told = fake.row("told", cells={"bpd": fake.cell(1.0, kind="EXACT", stderr=0.01, given="the label")})
    page = made(tmp_path, [told, fake.row("plain")])
    words = " ".join(summary.density_words(page))
    assert "best density by its bound is plain" in words and "told" not in words
    assert "not log p(x)" in page.rows[0].cell(page.columns[0]).reason
