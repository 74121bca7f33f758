from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import report_fake as fake
from PIL import Image

from genalloy.report.page import write_page

VOID = {"meta", "img", "link", "br", "hr", "input", "circle", "polygon", "line", "path", "rect"}


class Reader(HTMLParser):
    """Elements with their attributes and their text; unclosed or misnested elements fail at once."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def read(directory: Path) -> tuple[str, Reader]:
    page = write_page(directory).read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return page, reader


def pngs(reader: Reader) -> Iterator[Image.Image]:
    for image in reader.all("img"):
        head, body = str(image["src"]).split(",", 1)
        assert head == "data:image/png;base64"
        picture = Image.open(io.BytesIO(base64.b64decode(body, validate=True)))
        picture.load()
        assert picture.format == "PNG"
        assert picture.size == (int(str(image["width"])), int(str(image["height"])))
        yield picture


@pytest.fixture
def images(tmp_path: Path) -> Path:
    fake.add_images(fake.write(tmp_path))
    return tmp_path


@pytest.fixture
def points(tmp_path: Path) -> Path:
    fake.add_points(fake.write(tmp_path, kind="points", shape=[2], optimum=-2.8318))
    return tmp_path


@pytest.mark.parametrize("kind", ["images", "points"])
def test_page_stands_alone(kind: str, request: pytest.FixtureRequest) -> None:
    page, reader = read(request.getfixturevalue(kind))
    assert not re.search(r"(src|href|url\(|@import)\W*(https?:)?//", page)
    assert not reader.all("link")
    assert all("src" not in script for script in reader.all("script"))
    assert all(str(a["href"]).startswith("#") for a in reader.all("a"))
    assert len(list(pngs(reader))) >= 4
    assert all(image.get("alt") for image in reader.all("img"))


@pytest.mark.parametrize("kind", ["images", "points"])
def test_ids_are_unique_and_every_reference_has_its_target(kind: str, request: pytest.FixtureRequest) -> None:
    page, reader = read(request.getfixturevalue(kind))
    ids = [attrs["id"] for _, attrs in reader.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {str(use["href"])[1:] for use in reader.all("use")} | set(re.findall(r"url\(#([^)]+)\)", page)) <= set(ids)
    wanted = {str(a["href"])[1:] for a in reader.all("a")}
    wanted |= {name for _, attrs in reader.elements for name in str(attrs.get("aria-labelledby") or "").split()}
    assert wanted <= set(ids)


def test_every_row_label_and_column_note_is_on_the_page(images: Path) -> None:
    _, reader = read(images)
    made = fake.comparison(fake.rows())
    for row in made["rows"]:
        assert row["recipe"] in reader.words
    for kind, said in made["labels"].items():
        assert kind in reader.words
        assert said in reader.words
    assert all(f"note of {column['id']}" in reader.words for column in made["columns"])
    assert "genalloy compare digits --seed 3" in reader.words


def test_table_headers_have_scopes_and_rows_have_one_cell_a_column(images: Path) -> None:
    page, reader = read(images)
    assert all(th.get("scope") in ("row", "col", "rowgroup", "colgroup") for th in reader.all("th"))
    body = page[page.index("<tbody") : page.index("</table>")]
    rows = [r for r in re.split(r"<tr ", body) if 'data-row="' in r and 'colspan="' not in r.split("</tr>")[0]]
    assert len(rows) == 9
    assert {r.split("</tr>")[0].count("<td") for r in rows} == {len(fake.COLUMNS)}


def test_names_are_escaped_everywhere(images: Path) -> None:
    page, reader = read(images)
    assert "alert('x')" not in re.sub(r"&[#\w]+;", "", page.replace("alert(&#39;x&#39;)", ""))
    assert len(reader.all("script")) == 1
    assert fake.NASTY in reader.words


def cell_text(page: str, recipe: str, column: int) -> str:
    row = next(r for r in page.split("<tr ") if f">{recipe}</a>" in r)
    inner = re.split(r"<td[^>]*>", row)[column]
    return " ".join(re.sub(r"<[^>]+>", " ", inner.split("</td>")[0]).split())


@pytest.mark.parametrize(
    ("recipe", "sign", "badge"),
    [
        ("exact-one", "=", "exact"),
        ("bounded", "\u2264", "lower bound"),
        ("above", "\u2265", "upper bound"),
        ("guess", "\u2248", "estimate"),
    ],
)
def test_no_density_without_its_sign_and_label(images: Path, recipe: str, sign: str, badge: str) -> None:
    page, _ = read(images)
    text = cell_text(page, recipe, 1)
    assert text.startswith(sign)
    assert text.removesuffix(" leads").endswith(badge)


def test_missing_numbers_are_words(images: Path) -> None:
    page, reader = read(images)
    assert cell_text(page, "gan", 1) == "n/a (no density)"
    assert cell_text(page, "guess", 2).startswith("n/a (no finite number")
    assert "nan" not in reader.words.lower().replace("nano", "")


def test_failures_and_damaged_pictures_are_said(images: Path) -> None:
    _, reader = read(images)
    assert "step 4: out of memory" in reader.words
    assert "silent" in reader.words
    assert "The saved pictures cannot be read (" in reader.words
    assert "No pictures were saved for this run" in reader.words


def test_density_map_is_bright_where_the_density_is(points: Path) -> None:
    _, reader = read(points)
    maps = [
        picture.convert("RGB")
        for picture, attrs in zip(pngs(reader), reader.all("img"), strict=True)
        if "density" in str(attrs["alt"])
    ]
    assert len(maps) == 2
    for picture in maps:
        assert sum(picture.getpixel((220, 220))) > 500
        assert sum(picture.getpixel((5, 5))) < 60


def test_page_without_any_picture_and_with_one_row(tmp_path: Path) -> None:
    _, reader = read(fake.write(tmp_path, [fake.row("only")]))
    assert not reader.all("img")
    assert "only" in reader.words


def test_many_rows_and_no_rows(tmp_path: Path) -> None:
    many = [fake.row("a-very-long-recipe-name-" * 4 + str(i), f"family {i % 9}") for i in range(30)]
    _, reader = read(fake.write(tmp_path / "many", many))
    assert all(row["recipe"] in reader.words for row in many)
    _, reader = read(fake.write(tmp_path / "none", []))
    assert "No rows yet" in reader.words


def test_a_folder_outside_the_directory_is_not_read(tmp_path: Path) -> None:
    inside = fake.write(tmp_path / "in", [fake.row("sly", folder="../out/runs/a")])
    fake.add_images(fake.write(tmp_path / "out"))
    _, reader = read(inside)
    assert not reader.all("img")
    assert "lies outside" in reader.words


def test_page_is_replaced_whole_and_nothing_is_left_behind(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_page(images)
    before = (images / "report.html").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_page(images)
    assert (images / "report.html").read_bytes() == before
    assert not list(images.glob(".report-*"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no comparison.json"),
        ("{", "not JSON"),
        ('{"format": 9}', "format 9"),
        ('{"format": 1}', "reads format 2"),
        ("[]", "list"),
    ],
)
def test_bad_directory_is_one_clear_line(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(ValueError, match=said) as caught:
        write_page(tmp_path)
    assert "\n" not in str(caught.value)
