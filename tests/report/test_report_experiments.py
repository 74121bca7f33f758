"""Pages of experiments and sweeps: the claim, seeds, published numbers, settings, panels, walks and texts."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_fake as fake
from PIL import Image
from test_report_page import Reader, pngs, read

from genalloy.core.evidence import Kind
from genalloy.core.schema import Column, Number, Published, Row, read_comparison, row_from
from genalloy.report import charts, renderers, summary
from genalloy.report.model_sections import strips
from genalloy.report.page import beside

BITS = Column("bpd", "bits/dim", "density", "low", "bits/dim")
SVG = "{http://www.w3.org/2000/svg}"
PUBLISHED = [
    {"name": "NICE", "value": 1.95, "unit": "bits/dim", "setup": "MNIST, 5 couplings", "source": "Grover et al., 2018"},
    {"name": "IWAE", "value": 87.1, "unit": "nats", "setup": "k = 50", "source": "Burda et al., 2016"},
    {"name": "GAN", "value": 0.03, "unit": "", "setup": "other features", "source": "someone", "column": "kid"},
]


def seeded(values: list[float | None], **more: Any) -> dict[str, Any]:
    known = [v for v in values if v is not None]
    error = float(np.std(known, ddof=1) / len(known) ** 0.5)
    return fake.cell(float(np.mean(known)), stderr=error, seeds=values, **more)


PARTS = [
    {"outcome": "not separated", "words": "bpd: ours 2, theirs 2.25; both are bounds"},
    {"outcome": "holds", "words": "kid: ours 0.1"},
    {"outcome": "incomplete", "words": "ours has no probe"},
]
WORDS = "bpd: ours 2, theirs 2.25; both are bounds (not separated); kid: ours 0.1 (holds); ours has no probe (incomplete)"


def experiment(directory: Path, outcome: str = "holds", **facts: Any) -> Path:
    """A comparison folder with what an experiment adds."""
    rows = [
        fake.row("ours", "latent", cells={"bpd": seeded([1.9, 2.0, None, 2.1], kind="LOWER")}, seeds=[0, 1, 3]),
        fake.row("theirs", cells={"bpd": seeded([2.2, 2.3, 2.25], kind="EXACT")}),
        fake.row("gaussian", "baseline", "baseline"),
    ]
    rows[0]["panels"] = {
        "Memorisation": {
            "distance_ratio": fake.cell(1.02, stderr=0.03, low=0.9, high=1.2, how="against held-out rows", n=1000),
            "authenticity": fake.cell(missing="needs at least 2,000 samples; found 1,000"),
        }
    }
    fake.write(directory, rows)
    raw = json.loads((directory / "comparison.json").read_text())
    raw |= {"kind": "reproduce", "claim": "Ours is better.", "verdict": {"outcome": outcome, "words": WORDS, "parts": PARTS}}
    raw |= {"published": PUBLISHED, "budget": "quick", "seeds": [0, 1, 2, 3], "headline": ["bpd", "kid"], **facts}
    (directory / "comparison.json").write_text(json.dumps(raw))
    return directory


def sweep(directory: Path) -> Path:
    made = [(latent, beta) for latent in (2, 8, 4) for beta in ("one", "four")]
    rows = []
    for i, (latent, beta) in enumerate(made):
        cells = {"bpd": seeded([2.0 + i, 2.1 + i, 2.2 + i], kind="LOWER")}
        rows.append(fake.row(f"latent={latent}, beta={beta}", cells=cells, settings={"latent": latent, "beta": beta}))
    return experiment(directory, kind="sweep", rows=rows, sweep=["latent", "beta"], claim="", verdict=None, published=[])


# -- the claim -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "word"),
    [("holds", "Holds"), ("fails", "Fails"), ("not separated", "Not separated"), ("incomplete", "Incomplete")],
)
def test_the_verdict_has_a_colour_and_a_word(tmp_path: Path, outcome: str, word: str) -> None:
    page, reader = read(experiment(tmp_path, outcome))
    assert "Ours is better." in reader.words
    claim = page[page.index('class="claim') : page.index('class="findings"')]
    assert f"v-{outcome.replace(' ', '-')}" in claim
    assert word in re.sub(r"<[^>]+>", " ", claim)
    assert f".v-{outcome.replace(' ', '-')} {{" in page


def test_a_verdicts_parts_keep_their_own_outcomes(tmp_path: Path) -> None:
    verdict = read_comparison(experiment(tmp_path) / "comparison.json").verdict
    assert verdict is not None and [part.outcome.value for part in verdict.parts] == ["not separated", "holds", "incomplete"]
    assert verdict.whole == WORDS
    page, _ = read(tmp_path)
    findings = page[page.index('class="findings"') : page.index("</ul>", page.index('class="findings"'))]
    assert [findings.count(f"v-{word}") for word in ("not-separated", "holds", "incomplete")] == [1, 1, 1]


def test_a_sentence_that_looks_like_parts_is_left_alone(tmp_path: Path) -> None:
    """Text is not read back: words that end in an outcome are words."""
    _, reader = read(experiment(tmp_path, verdict={"outcome": "holds", "words": "a is better (fails); b is (holds)"}))
    assert "a is better (fails); b is (holds)" in reader.words


def test_a_plain_comparison_has_no_claim_and_no_seeds(tmp_path: Path) -> None:
    page, reader = read(fake.write(tmp_path))
    assert "The claim" not in reader.words
    assert all(f'id="{name}"' not in page for name in ("seeds", "published", "sweep"))


# -- published numbers ---------------------------------------------------------------------------------------------


def test_published_numbers_stand_beside_ours_and_never_among_them(tmp_path: Path) -> None:
    page, reader = read(experiment(tmp_path))
    table = page[page.index('<table id="comparison">') : page.index("</table>")]
    for p in PUBLISHED:
        assert p["name"] not in table
        assert all(str(p[key]) in reader.words for key in ("name", "setup", "source"))
    assert "another set-up" in reader.words
    assert page.count('class="elsewhere"') == len(PUBLISHED)


def test_published_numbers_find_their_column(tmp_path: Path) -> None:
    found = beside(read_comparison(experiment(tmp_path) / "comparison.json"))
    assert [(b.column and b.column.id, [p.name for p in b.published]) for b in found] == [
        ("bpd", ["NICE"]),
        ("kid", ["GAN"]),
        (None, ["IWAE"]),
    ]
    assert [row.recipe for row, _ in found[0].own] == ["ours", "theirs"]


def test_a_unit_alone_does_not_put_a_number_on_a_quality_axis() -> None:
    blank = Published("x", 1.0, unit="", column="")
    assert not charts.belongs(blank, Column("kid", "kernel distance", "generation", "low"))
    assert not charts.belongs(blank, Column("score", "log p", "density", "high"))
    assert not charts.belongs(Published("x", 1.0, unit="s"), Column("train", "training", "cost", "low", "s"))
    assert charts.belongs(Published("x", 1.0, unit="bits/dim"), BITS)
    assert not charts.belongs(Published("x", 1.0, unit="bits/dim", column="kid"), BITS)


# -- seeds ---------------------------------------------------------------------------------------------------------


def plot(rows: list[dict[str, Any]], published: list[dict[str, Any]] | None = None) -> ET.Element:
    return ET.fromstring(
        charts.seed_dots([row_from(row) for row in rows], BITS, [Published(**p) for p in published or []], "u", True)
    )


def groups(svg: ET.Element, kind: str) -> list[ET.Element]:
    return [group for group in svg.iter(f"{SVG}g") if group.attrib.get("class") == kind]


def across(svg: ET.Element, kind: str) -> list[list[float]]:
    """Where the markers of each group lie."""
    return [[float(mark.attrib["x"]) for mark in group.iter(f"{SVG}use")] for group in groups(svg, kind)]


def texts(svg: ET.Element) -> str:
    return " | ".join(element.text or "" for element in svg.iter(f"{SVG}text"))


def test_seed_dots_is_a_picture_of_its_own_with_a_dot_a_seed() -> None:
    rows = [
        fake.row("a", cells={"bpd": seeded([1.0, 2.0, None], kind="EXACT")}),
        fake.row("b", "latent", cells={"bpd": seeded([1.5, 1.5, 3.0], kind="LOWER")}),
        fake.row("none", cells={"bpd": fake.cell(missing="x")}),
    ]
    svg = plot(rows, PUBLISHED)
    first, second = across(svg, "seed")
    dots = [*first, *second]
    assert len(dots) == 5
    assert dots[0] < dots[2] == dots[3] < dots[1] < dots[4]
    assert across(svg, "mean")[0] == pytest.approx([(dots[0] + dots[1]) / 2], abs=0.11)
    assert len(groups(svg, "bar")) == 2 and len(groups(svg, "toward")) == 1
    assert len(list(svg.iter(f"{SVG}style"))) == 1
    assert svg.attrib["role"] == "img"
    assert svg.find(f"{SVG}title") is not None
    assert "NICE" in texts(svg) and "IWAE" not in texts(svg) and "GAN" not in texts(svg)
    assert "\u2264 2 \u00b1 0.5" in texts(svg) and "= 1.5 \u00b1 0.5" in texts(svg)
    [published] = groups(svg, "else")
    assert published.find(f"{SVG}title").text == "NICE: 1.95 published"
    assert "fill: var(--card); stroke: var(--soft)" in str([mark.attrib["style"] for mark in published.iter(f"{SVG}use")])


def test_the_arrow_of_a_bound_points_to_where_the_truth_may_lie() -> None:
    nats = Column("bpd", "log p", "density", "high", "nats")
    for column, kind, side in ((BITS, Kind.LOWER, -1), (BITS, Kind.UPPER, 1), (nats, Kind.LOWER, 1), (BITS, Kind.EXACT, 0)):
        svg = ET.fromstring(charts.seed_dots([Row("x", cells={"bpd": Number(2.0, kind=kind)})], column, [], "u"))
        arrows = [path.attrib["d"] for group in groups(svg, "toward") for path in group.iter(f"{SVG}path")][:1]
        tips = [float(re.findall(r"[MLQ] ([-\d.]+) ", arrow)[0]) for arrow in arrows]
        assert [np.sign(tip - across(svg, "mean")[0][0]) for tip in tips] == [side] * (side != 0)


def test_far_numbers_are_named_and_nothing_is_drawn_without_rows() -> None:
    rows = [fake.row("a", cells={"bpd": seeded([1.0, 1.1, 1.2])}), fake.row("b", cells={"bpd": seeded([1.3, 1.1, 1.2])})]
    far = [{"name": "far", "value": 900.0, "unit": "bits/dim"}]
    assert "Off the chart: far (900 published)" in texts(plot(rows, far))
    assert charts.seed_dots([], BITS, [Published(**p) for p in far], "u") == ""
    assert charts.seed_dots([row_from(fake.row("g", kind="baseline"))], BITS, [], "u") == ""


def test_names_in_a_dot_plot_are_escaped() -> None:
    svg = plot([fake.row(fake.NASTY, cells={"bpd": seeded([1.0, 1.2, 1.3])})])
    assert not list(svg.iter(f"{SVG}script"))


def test_seeds_of_one_cell_count_for_a_claim(tmp_path: Path) -> None:
    values = {"good": [0.001, 0.0011, 0.0012], "poor": [0.1, 0.11, 0.12]}
    rows = [fake.row(name, cells={"kid": seeded(each)}) for name, each in values.items()]
    [words] = summary.quality_words(read_comparison(fake.write(tmp_path, rows) / "comparison.json"))
    assert "not separated" not in words and "poor" not in words


def test_without_errors_nothing_is_told_apart(tmp_path: Path) -> None:
    rows = [fake.row(n, cells={"kid": fake.cell(v)}) for n, v in (("a", 0.1), ("b", 0.9))]
    assert "do not tell it from b" in summary.quality_words(read_comparison(fake.write(tmp_path, rows) / "comparison.json"))[0]


# -- sweeps --------------------------------------------------------------------------------------------------------


def test_a_sweep_has_a_chart_for_each_headline_and_setting(tmp_path: Path) -> None:
    page, reader = read(sweep(tmp_path))
    for setting in ("latent", "beta"):
        for column in ("bits/dim", "Kernel distance"):
            assert f"{column} against {setting}" in page
    assert "latent = 8" in reader.words
    assert "6 settings" in reader.words


def test_a_sweeps_line_runs_through_its_own_points_in_order(tmp_path: Path) -> None:
    made = read_comparison(sweep(tmp_path) / "comparison.json").finished
    rows = [made[i] for i in (0, 2, 4, 5, 1, 3)]
    assert list(charts.lines_of(rows, BITS, "latent")) == ["beta = one", "beta = four"]
    svg = ET.fromstring(charts.sweep_chart(rows, BITS, "latent", "u"))
    lines = [path.attrib["d"] for group in groups(svg, "join") for path in group.iter(f"{SVG}path")]
    assert len(lines) == 2
    assert [len(group) for group in across(svg, "seed")] == [3] * 6 and len(groups(svg, "whisker")) == 6
    assert {"beta = one", "beta = four", "2", "4", "8"} <= set(texts(svg).split(" | "))
    for d in lines:
        spots = re.findall(r"[ML] ([\d.]+) ([\d.]+)", d)
        steps = [float(x) for x, _ in spots]
        assert len(steps) == 3 and steps == sorted(steps)
        first, middle, last = (float(y) for _, y in spots)
        # the settings 2, 8, 4 have rising values; heights are counted downwards
        assert first > last > middle
    assert charts.sweep_chart(rows[:1], BITS, "latent", "u") == ""


def test_settings_that_are_no_numbers_lie_evenly() -> None:
    spots, labels = charts.places(["b", "a", "b"])
    assert spots == {"b": 0.0, "a": 1.0} and labels == ["b", "a"]
    assert charts.places([True, False])[1] == ["True", "False"]


@pytest.mark.parametrize(("settings", "even"), [((1, 10, 100), True), ((1, 2, 3), True), ((1, 2, 4), False), ((1, 8, 64), True)])
def test_settings_that_are_multiplied_lie_on_a_logarithm(settings: tuple[int, ...], even: bool) -> None:
    rows = [row_from(fake.row("a", settings={"width": width})) for width in settings]
    svg = ET.fromstring(charts.sweep_chart(rows, BITS, "width", "u"))
    first, second, third = (at for group in across(svg, "dot") for at in group)
    assert (third - second == pytest.approx(second - first, abs=0.05)) is even


def test_settings_that_would_touch_are_not_all_named() -> None:
    rows = [row_from(fake.row("a", settings={"width": width})) for width in (1000, 1001, 1002, 9000)]
    said = texts(ET.fromstring(charts.sweep_chart(rows, BITS, "width", "u"))).split(" | ")
    assert "1,000" in said and "9,000" in said and "1,001" not in said


# -- the card ------------------------------------------------------------------------------------------------------


def test_all_numbers_of_a_row_are_on_its_card(tmp_path: Path) -> None:
    _, reader = read(experiment(tmp_path))
    for said in ("Memorisation", "distance ratio", "0.9 to 1.2", "against held-out rows; n = 1,000", "by seed 1.9, 2, n/a, 2.1"):
        assert said in reader.words
    assert "authenticity needs at least 2,000 samples; found 1,000 n/a" in reader.words


def test_walks_are_drawn_for_images_and_points() -> None:
    rng = np.random.default_rng(0)
    for shape in ((1, 4, 4), (2,), (5,)):
        arrays = {k: rng.normal(size=(*n, *shape)) for k, n in (("interpolations", (3, 5)), ("traversals", (2, 5)))}
        lens = renderers.renderer_for(shape, {"data": rng.normal(size=(60, *shape))}, None)
        assert lens is not None
        found = list(strips(arrays, lens, "x"))
        assert [s.title for s in found] == ["Interpolations", "Traversals"]
        assert all(p.alt.startswith(("Interpolations of x", "Traversals of x")) for s in found for p in s.pictures)


def test_a_path_on_the_plane_is_where_its_points_are() -> None:
    window = renderers.Window(0.0, 1.0, 0.0, 1.0)
    line = np.stack([np.linspace(0.1, 0.4, 5), np.full(5, 0.8)], -1)
    drawn = np.asarray(Image.open(io.BytesIO(renderers.pictures.paths(line[None], window))))[..., 3]
    rows, columns = np.nonzero(drawn)
    assert 60 < rows.mean() < 115 and columns.max() < 220


# -- texts ---------------------------------------------------------------------------------------------------------


def test_texts_are_printed_and_not_projected(tmp_path: Path) -> None:
    alphabet = ["\n", " ", "a", "b", "<"]
    fake.write(tmp_path, [fake.row("poet", folder="poet")], kind="text", shape=[4], alphabet=alphabet)
    (tmp_path / "poet").mkdir()
    np.savez(tmp_path / "reference.npz", data=np.array([[2, 1, 3, 3]] * 5))
    samples = np.array([[3, 2, 0, 4], [2.4, 9, np.nan, -1]])
    pairs = np.stack([samples[:1], samples[:1] * 0 + 2])
    np.savez(tmp_path / "poet" / "pictures.npz", samples=samples, reconstructions=pairs)
    _, reader = read(tmp_path)
    assert not list(pngs(reader))
    for said in ("a bb", "ba\u21b5<", "a\u25a1\u25a1\u25a1", "decoded aaaa"):
        assert said in reader.words


def test_text_without_an_alphabet_still_has_a_page(tmp_path: Path) -> None:
    fake.write(tmp_path, [fake.row("poet")], kind="text", shape=[4])
    np.savez(tmp_path / "reference.npz", data=np.random.default_rng(0).integers(0, 5, (30, 4)))
    _, reader = read(tmp_path)
    assert len(list(pngs(reader))) == 1


# -- names for those who do not see -----------------------------------------------------------------------------------


class Named(Reader):
    """Collects the words inside buttons, links and summaries."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        super().handle_starttag(tag, attrs)
        if tag in ("button", "a", "summary", "caption"):
            self.said.append("")

    def handle_data(self, data: str) -> None:
        super().handle_data(data)
        if {"button", "a", "summary", "caption"} & set(self.open):
            self.said[-1] += data


@pytest.mark.parametrize("make", [experiment, sweep])
def test_every_control_has_a_name(tmp_path: Path, make: Any) -> None:
    page, reader = read(make(tmp_path))
    named = Named()
    named.feed(page)
    assert named.said and all(words.strip() for words in named.said)
    for tag, attrs in reader.elements:
        if attrs.get("role") in ("region", "img") or (attrs.get("tabindex") == "0"):
            assert attrs.get("aria-label") or attrs.get("aria-labelledby"), (tag, attrs)
    ids = [attrs["id"] for _, attrs in reader.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {n for _, attrs in reader.elements for n in str(attrs.get("aria-labelledby") or "").split()}
    assert wanted | {str(a["href"])[1:] for a in reader.all("a")} <= set(ids)
    assert {b["data-order"] for b in reader.all("button")} == {"ascending", "descending"}
    assert not re.search(r"(src|href|url\(|@import)\W*(https?:)?//", page)
