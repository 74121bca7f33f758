"""What every chart has in common: names for those who do not see, the page's colours, plain text, the same bytes each time."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET

import matplotlib
import pytest
import report_fake as fake

from genalloy.core.schema import Column, row_from
from genalloy.report import charts, figures, scatter

BITS = Column("bpd", "bits_$per$_dim", "density", "low", "bits/dim")
HARD = ["a_b", "$x_2$", "_under", fake.NASTY, "\u65e5\u672c\u8a9e", "x" * 60]


def line(uid: str = "line") -> str:
    return charts.line_chart({name: [(0, 1.0), (1, 2.0)] for name in HARD[:3]}, "Loss of <x>", uid)


def dots(uid: str = "dots", alone: bool = False) -> str:
    rows = [row_from(fake.row(name, cells={"bpd": fake.cell(2.0, seeds=[1.9, 2.1], kind="LOWER")})) for name in HARD]
    return charts.seed_dots(rows, BITS, [], uid, alone)


def sweep(uid: str = "sweep") -> str:
    rows = [row_from(fake.row("a", settings={"$k$": k, "_j": name})) for k in (1, 2) for name in HARD]
    return charts.sweep_chart(rows, BITS, "$k$", uid)


def trade(uid: str = "trade") -> str:
    rows = [
        row_from(fake.row(name, name, cells={"bpd": fake.cell(1.0 + i), "kid": fake.cell(2.0 + i)}))
        for i, name in enumerate(HARD)
    ]
    rows.append(row_from(fake.row("$level$", kind="reference") | {"cells": {"kid": fake.cell(3.0)}}))
    return scatter.scatter(rows, BITS, Column("kid", "$y_1$", "generation", "low"), uid)


CHARTS = [line, dots, sweep, trade]


@pytest.mark.parametrize("make", CHARTS)
def test_a_chart_names_itself_and_is_the_same_each_time(make) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = ET.fromstring(make("a"))
    words = {element.attrib["id"]: element.text for element in svg.iter() if "id" in element.attrib}
    assert svg.attrib["role"] == "img" and all(words[name] for name in svg.attrib["aria-labelledby"].split())
    assert all(name.startswith("a-") for name in words)
    assert make("a") == make("a") and make("a").replace("a-", "b-") == make("b").replace("a-", "b-")
    assert not set(re.findall(r'id="([^"]+)"', make("a"))) & set(re.findall(r'id="([^"]+)"', make("b")))


@pytest.mark.parametrize("make", CHARTS)
def test_every_colour_is_one_of_the_pages(make) -> None:
    drawn = re.sub(r"<title.*?</title>|<desc.*?</desc>", "", make())
    assert set(re.findall(r"var\(--(\w+)\)", drawn)) <= {*figures.VARIABLES.values(), "sans"}
    assert not re.search(r"(fill|stroke|color): ?(#(?!u)|rgb|black|white)", drawn)
    assert "<script" not in drawn and "DejaVu" not in drawn


def test_the_colours_are_those_of_the_page_in_the_light() -> None:
    said = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", figures.theme().split("@media")[0]))
    assert {colour: said["accent" if name == "fam" else name] for colour, name in figures.VARIABLES.items()} == {
        colour: colour for colour in figures.VARIABLES
    }


@pytest.mark.parametrize("make", [line, dots, trade])
def test_names_are_text_as_they_stand(make) -> None:
    said = {element.text for element in ET.fromstring(make()).iter("{http://www.w3.org/2000/svg}text")}
    assert {"a_b", "$x_2$", "_under"} <= said
    assert make is line or any(text.startswith("<script>alert(") for text in said if text)
    assert make is line or "\u65e5\u672c\u8a9e" in said


def test_a_key_names_every_line() -> None:
    said = {element.text for element in ET.fromstring(sweep()).iter("{http://www.w3.org/2000/svg}text")}
    assert {f"_j = {name}" for name in HARD} <= said


def test_a_file_of_its_own_brings_both_themes_along() -> None:
    assert "prefers-color-scheme: dark" in dots(alone=True) and "<style>" not in dots()
    ET.fromstring(dots(alone=True))


def test_the_users_own_style_is_neither_followed_nor_changed() -> None:
    before = line()
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "text.usetex": True, "svg.fonttype": "path"}):
        mine = dict(matplotlib.rcParams)
        assert line() == before
        assert dict(matplotlib.rcParams) == mine


def test_pyplot_is_never_loaded() -> None:
    code = "import sys; sys.path.insert(0, 'tests/report'); from genalloy.report import charts, pictures; import numpy as np\n"
    code += "charts.line_chart({'a': [(0, 1.0), (1, 2.0)]}, 't', 'u'); pictures.picture('points', np.eye(2))\n"
    code += "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == [
        "True",
        "False",
    ]
