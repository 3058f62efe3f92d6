"""The documentation: what makes a site of pages and notebooks, and the site itself."""

import html.parser
import json
import pathlib
import re
import subprocess
import sys
import urllib.parse

import griffe
import markdown
import pytest

import keras_sae
from docs import build
from docs.examples import Examples
from tests.test_readme import PAGES

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def test_every_public_name_is_in_the_reference():
    pages = (ROOT / "docs" / "reference").glob("*.md")
    named = set(re.findall(r"^::: (\S+)", "\n".join(page.read_text() for page in pages), flags=re.MULTILINE))
    assert [name for name in keras_sae.__all__ if f"keras_sae.{name}" not in named] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_without_outputs(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert [(cell["outputs"], cell["execution_count"]) for cell in cells] == [([], None)] * len(cells)


# The Markdown of pages


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("of $x_1^2$ and $y$", ["of <math", "<msubsup><mi>x</mi><mn>1</mn>", "</math> and <math", "</math>"]),
        (
            "as\n\n$$\n\\frac{1}{m}\n+ a_*b_*\n$$\n\nis",
            ['display="block"', "<mfrac>", "<mo>&#x0002B;</mo>", "<p>is</p>"],
        ),
        ("it is 5 $ or 6 $, $7 and $8", ["<p>it is 5 $ or 6 $, $7 and $8</p>"]),
        ("as `$x$` and \\$y$", ["as <code>$x$</code> and ", "$y$"]),
    ],
)
def test_formulas_become_mathml(text, parts):
    page = markdown.markdown(text, extensions=["docs.formulas:Formulas"])
    for part in parts:
        assert part in page
        page = page.partition(part)[2]
    assert "<math" not in page


def test_examples_in_docstrings_become_code():
    made = griffe.Function("f")
    made.docstring = griffe.Docstring("One line.\n\n>>> a = f(\n...     1)\n>>> a\n2\n\nReference: none.")
    Examples().on_object(obj=made)
    assert made.docstring.value == (
        "One line.\n\n```pycon\n>>> a = f(\n...     1)\n>>> a\n2\n\n```\n\nReference: none."
    )


@pytest.mark.parametrize(
    ("source", "link", "turned"),
    [
        ("README.md", "docs/objective.md#is-it-right", "objective.md#is-it-right"),
        ("README.md", "models/mnist_stacked/features.png", "models/mnist_stacked/features.png"),
        ("docs/objective.md", "../train/README.md", "train/README.md"),
        ("docs/objective.md", "notebooks/objective.ipynb", "notebooks/objective.md"),
        ("docs/notebooks/objective.ipynb", "../../README.md#results", "../index.md#results"),
        ("train/README.md", "../benchmarks/README.md", "../benchmarks/README.md"),
        ("docs/objective.md", "https://example.com/a.md", "https://example.com/a.md"),
        ("docs/objective.md", "objective_1.png", "objective_1.png"),
    ],
)
def test_links_of_the_repository_become_those_of_the_site(source, link, turned):
    text, linked = build.with_links_of_the_site(f"[a]({link})", ROOT / source)
    assert text == f"[a]({turned})"
    found = (ROOT / source).parent / link.partition("#")[0]
    assert linked == ({found.resolve()} if found.is_file() else set())


# The site


class Page(html.parser.HTMLParser):
    """What a page links to, what it loads, and where it can be entered."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = set(), set(), {""}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.anchors |= {attributes.get("id"), attributes.get("name")}
        if tag == "a" and attributes.get("href"):
            self.links.add(attributes["href"])
        self.loads |= {attributes.get("src")}
        if tag == "link" and attributes.get("rel") not in ("canonical", "next", "prev"):
            self.loads.add(attributes["href"])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(path -> Page of the site, what building it said)."""
    out = tmp_path_factory.mktemp("documentation")
    command = [sys.executable, "-m", "docs.build", "--out", out]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in (out / "site").rglob("*.html")}
    return out / "site", pages, done.stdout + done.stderr


@pytest.mark.slow
def test_the_site_builds_without_warnings(built):
    site, pages, said = built
    assert "WARNING" not in said
    assert {site / "index.html", site / "objective" / "index.html", site / "train" / "index.html"} <= set(pages)
    assert len(pages) > len(PAGES)


@pytest.mark.slow
def test_every_link_and_anchor_within_the_site_resolves(built):
    site, pages, _ = built
    wrong = []
    for path, page in pages.items():
        for link in page.links | {load for load in page.loads if load}:
            address = urllib.parse.urlsplit(link)
            if address.scheme or path.name == "404.html":
                continue
            target = (path.parent / urllib.parse.unquote(address.path)).resolve() if address.path else path
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].anchors if target in pages else {""}
            if not target.is_file() or urllib.parse.unquote(address.fragment) not in anchors:
                wrong.append(f"{path.relative_to(site)}: {link}")
    assert wrong == []


@pytest.mark.slow
def test_nothing_is_loaded_from_other_hosts(built):
    _, pages, _ = built
    loaded = {load for page in pages.values() for load in page.loads if load}
    assert [load for load in loaded if urllib.parse.urlsplit(load).netloc] == []
    styles = "".join(path.read_text(encoding="utf-8") for path in built[0].rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)]*", styles) == []


@pytest.mark.slow
def test_every_public_name_can_be_linked_to(built):
    anchors = set().union(*(page.anchors for path, page in built[1].items() if "reference" in path.parts))
    assert [name for name in keras_sae.__all__ if f"keras_sae.{name}" not in anchors] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS])
def test_notebooks_show_pictures(name, built):
    site, pages, _ = built
    page = pages[site / "notebooks" / name / "index.html"]
    assert len([load for load in page.loads if load and load.endswith(".png")]) >= 2
    assert f"../{name}.ipynb" in page.links
