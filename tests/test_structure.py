"""The shape of the project: a star of directories around keras_sae, whose own imports point one way.

What ruff checks stands in pyproject.toml: no print, no assert, no notes to self, TensorFlow and optional packages only
where they are needed.
"""

import ast
import functools
import graphlib
import importlib.metadata
import importlib.util
import inspect
import itertools
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

import keras_sae

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "keras_sae"
SATELLITES = ("train", "export", "models", "benchmarks", "docs")
INSTALLED = ("train", "export", "models")  # which are inside of keras_sae once it is installed
LEAVES = ("losses", "constraints", "data.datasets", "visualization", "errors", "backend")
LIBRARY = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
OUTER = sorted(path for directory in SATELLITES for path in (ROOT / directory).rglob("*.py"))


@functools.cache
def imports(path):
    """Return all that a file imports, as dotted names of the installed library, and which of them are relative."""
    return imported(ast.parse(path.read_text(encoding="utf-8"), str(path)), package_of(path))


def imported(tree, package):
    """Return {dotted name: whether it is relative}; `from a import b` gives "a.b", as b may be a module."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name: False for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            found |= {f"{start}.{alias.name}": node.level > 0 for alias in node.names}
    return found


def package_of(path):
    """Return the dotted package whose modules a file names with leading dots, as it is once installed."""
    parts = path.relative_to(ROOT).parent.parts
    return ".".join(("keras_sae", *parts) if parts[0] in INSTALLED else parts)


def satellite(name):
    """Return which directory around the library a dotted name lies in, in a checkout or once installed, or None."""
    words = name.removeprefix("keras_sae.").split(".")
    return words[0] if words[0] in (*SATELLITES, "tests") else None


def library_imports(name):
    """Return the modules of keras_sae that one of them imports."""
    found = set()
    for target in imports(LIBRARY[name]):
        words = target.split(".")[1:] if target.startswith("keras_sae.") else []
        # The longest beginning of the name that is a module; what comes after it is something inside.
        modules = (".".join(words[:length]) for length in range(len(words), 0, -1))
        found |= set(filter(None, [next((module for module in modules if module in LIBRARY), None)]))
    return found


def test_the_imports_of_every_form_are_seen():
    tree = ast.parse(
        "import a.b, c as d\nfrom e import f\nfrom . import g\nfrom ..h import i\n"
        "class K:\n    import l\ntry:\n    import m\nfinally:\n    pass\ndef n():\n    import o\n"
    )
    assert imported(tree, "p.q") == {
        **dict.fromkeys(("a.b", "c", "e.f", "l", "m", "o"), False),
        **dict.fromkeys(("p.q.g", "p.h.i"), True),
    }
    assert satellite("train.cli") == satellite("keras_sae.train.cli") == "train"
    assert satellite("keras_sae.training.lbfgs") is None


def test_the_files_are_found():
    assert {"autoencoder", "training.full_batch", *LEAVES} <= set(LIBRARY)
    assert {ROOT / "train" / "mnist.py", ROOT / "export" / "__main__.py"} <= set(OUTER)


@pytest.mark.parametrize("path", OUTER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_directories_around_the_library_never_import_each_other(path):
    own = path.relative_to(ROOT).parts[0]
    assert {satellite(name) for name in imports(path)} <= {own, None}


@pytest.mark.parametrize("path", OUTER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_directories_around_the_library_work_in_a_checkout_and_installed(path):
    """They name their own modules relatively, and the library absolutely."""
    own = path.relative_to(ROOT).parts[0]
    if own in INSTALLED:
        wrong = {name for name, relative in imports(path).items() if relative != (satellite(name) == own)}
        assert wrong == set()


@pytest.mark.parametrize("name", LIBRARY)
def test_the_library_imports_none_of_the_directories_around_it(name):
    assert {satellite(target) for target in imports(LIBRARY[name])} <= {None}


def test_the_imports_of_the_library_have_no_cycle():
    graph = {name: library_imports(name) for name in LIBRARY}
    assert graph["stack"] >= {"autoencoder", "training.fit"}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("name", LEAVES)
def test_the_leaves_import_nothing_of_the_library_but_its_errors(name):
    assert library_imports(name) <= {"errors", "extras"}


@pytest.mark.parametrize("name", [name for name in LIBRARY if name.startswith("data.readers")])
def test_the_readers_of_data_know_nothing_of_models(name):
    others = {target for target in library_imports(name) if not target.startswith("data.readers")}
    harmless = {"archives", "constraints", "errors", "extras", "files", "locks"}
    assert others <= {*harmless, "data.datasets", "data.fingerprints"}


def test_every_package_that_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    declared = {re.match(r"[\w-]+", text)[0].replace("-", "_") for text in texts}
    brought = importlib.metadata.packages_distributions()
    roots = {name.partition(".")[0] for path in (*LIBRARY.values(), *OUTER) for name in imports(path)}
    roots -= {*sys.stdlib_module_names, *SATELLITES, "keras_sae", "torch"}  # a backend, which its users have
    packages = {root: {root, *(name.replace("-", "_") for name in brought.get(root, ()))} for root in roots}
    assert [root for root in roots if not declared & packages[root]] == []


@pytest.mark.parametrize("name", keras_sae.__all__)
def test_every_public_name_has_a_docstring_of_its_own(name):
    assert len(inspect.cleandoc(getattr(keras_sae, name).__doc__ or "")) > 20


# A root, then a directory where people and machines keep their own things; ../x, URLs and globs are no such paths.
MACHINE_PATH = r"(?<![\w.:/*$}])/(?:home|Users|root|work|mnt|private)/\w"


def source_files():
    """Return the text files that git tracks, or would once added."""
    if not (ROOT / ".git").exists():
        return []
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    kinds = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".json", ".cfg", ".cff", ""}
    return sorted(path for path in map(ROOT.joinpath, listed) if path.is_file() and path.suffix in kinds)


def test_the_pattern_finds_what_it_should():
    home = "/home" + "/me"  # in two parts, because this file is searched as well
    for line in (f"cd {home}", f'open("{home}/x")', f"--data={home}"):
        assert re.search(MACHINE_PATH, line)
    for line in ("../home/x", "https://a.org/home/x", "$PWD/home/x", "a/root/b"):
        assert not re.search(MACHINE_PATH, line)


@pytest.mark.skipif(not source_files(), reason="needs the git checkout, to know which files are source")
def test_no_source_file_names_a_path_of_one_machine():
    found = []
    for path in source_files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(MACHINE_PATH, line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []
