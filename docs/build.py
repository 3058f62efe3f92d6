"""Build the documentation: python -m docs.build [--out DIR] [--without-outputs]. It needs no network.

What MkDocs renders is assembled in DIR/docs: the pages of this directory, the notebooks, executed, as pages, and the
READMEs and other files of the project that they link to. Links are those of the repository, so that they work there as
well; here they become those of the site, DIR/site.
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent
OF_PROJECT = ("README.md", "train/README.md", "export/README.md", "benchmarks/README.md", "models/README.md",
              "CONTRIBUTING.md", "CHANGELOG.md")  # fmt: skip
LINK = re.compile(r"(\]\()((?!\w+:)[^)#\s]+)([)#])")  # to a file, from its parenthesis on
SECONDS = 600  # that a cell may take


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build", help="directory (default: build)")
    parser.add_argument("--without-outputs", action="store_true", help="do not execute the notebooks: seconds")
    arguments = parser.parse_args()
    pages = arguments.out.resolve() / "docs"
    shutil.rmtree(pages, ignore_errors=True)
    assemble(pages, execute=not arguments.without_outputs)
    variables = {**os.environ, "PAGES": str(pages), "NO_MKDOCS_2_WARNING": "1"}  # which is the theme's own news
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(pages.parent / "site")]
    sys.exit(subprocess.run(command, cwd=ROOT, env=variables).returncode)


def assemble(pages: pathlib.Path, execute: bool) -> None:
    """Write all that MkDocs is to render to a new directory; execute: whether notebooks get their outputs."""
    sources = [ROOT / name for name in OF_PROJECT]
    sources += [path for path in sorted(HERE.rglob("*")) if path.suffix in (".md", ".ipynb", ".css")]
    linked: set[pathlib.Path] = set()
    for source in sources:
        print(source.relative_to(ROOT), flush=True)
        linked |= add(source, pages, execute)
    while linked := {path for path in linked if not (pages / place(path)).exists()}:
        linked = set().union(*(add(path, pages, execute) for path in linked))


def place(source: pathlib.Path) -> pathlib.Path:
    """Return where a file of the project is among the pages: what is in docs/ at their top, a notebook as a page."""
    name = source.relative_to(HERE if source.is_relative_to(HERE) else ROOT)
    if name == pathlib.Path("README.md"):
        return pathlib.Path("index.md")
    return name.with_suffix(".md") if name.suffix == ".ipynb" else name


def add(source: pathlib.Path, pages: pathlib.Path, execute: bool) -> set[pathlib.Path]:
    """Add a file to the pages, a notebook as it is as well. Return the files of the project that it links to."""
    target = pages / place(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix != ".md":
        shutil.copy(source, target.parent)
    if source.suffix not in (".md", ".ipynb"):
        return set()
    text = source.read_text(encoding="utf-8") if source.suffix == ".md" else rendered(source, target, execute)
    text, linked = with_links_of_the_site(text, source)
    if source.suffix == ".ipynb":
        title, rest = text.split("\n", 1)
        text = f"{title}\n\n*A notebook: [{source.name}]({source.name}) opens in Jupyter.*\n{rest}"
    target.write_text(text, encoding="utf-8")
    return linked


def with_links_of_the_site(text: str, source: pathlib.Path) -> tuple[str, set[pathlib.Path]]:
    """Return the text of a page with its links to files of the project turned, and these files."""
    linked: set[pathlib.Path] = set()

    def turned(link: re.Match) -> str:
        path = pathlib.Path(os.path.normpath(source.parent / link[2]))
        if not path.is_file():
            return link[0]  # one of the site itself, such as a picture of a notebook; MkDocs finds what is wrong
        linked.add(path)
        return link[1] + os.path.relpath(place(path), place(source).parent) + link[3]

    return LINK.sub(turned, text), linked


def rendered(notebook: pathlib.Path, target: pathlib.Path, execute: bool) -> str:
    """Return a notebook as Markdown, and write its pictures beside the page that it becomes."""
    cells = nbformat.read(notebook, as_version=4)
    if execute:
        os.environ["PYTHONPATH"] = str(ROOT)
        with tempfile.TemporaryDirectory() as directory:
            options = {"resources": {"metadata": {"path": directory}}, "extra_arguments": ["--log-level=ERROR"]}
            NotebookClient(cells, timeout=SECONDS, **options).execute()
    text, resources = MarkdownExporter().from_notebook_node(cells, {"unique_key": notebook.stem})
    for name, content in resources["outputs"].items():
        (target.parent / name).write_bytes(content)
    return text.strip()


if __name__ == "__main__":
    main()
