"""The shape of the project: a star of folders around keras_sae, whose own imports point one way."""

import ast
import functools
import graphlib
import importlib.util
import inspect
import pathlib
import re
import subprocess

import pytest

import keras_sae

ROOT = pathlib.Path(__file__).parents[1]
SATELLITES = ("train", "export", "models", "benchmarks")
LEAVES = ("losses", "regularizers", "layers", "data.datasets", "visualization", "errors", "backend")
# The readers of people's own data: what each may import, so that the rest of the library stays out of them.
READERS = {
    "data.readers.rows": {"errors", "files"},
    "data.readers.labels": {"errors", "data.readers.rows"},
    "data.readers.arrays": {"errors", "data.readers.rows", "data.readers.labels"},
    "data.readers.tables": {"errors", "data.readers.rows", "data.readers.labels"},
    "data.readers.image_files": {"errors", "data.readers.rows", "data.readers.labels"},
    "data.readers.records": {
        "errors",
        "data.readers.rows",
        "data.readers.labels",
        "data.datasets",
        "data.readers.image_files",
    },
    "data.readers": {
        "errors",
        "data.readers.rows",
        "data.readers.arrays",
        "data.readers.tables",
        "data.readers.image_files",
        "data.readers.records",
    },
}
PACKAGE = ROOT / "keras_sae"
LIBRARY = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
OUTER = sorted(path for folder in SATELLITES for path in (ROOT / folder).rglob("*.py"))

parametrize_library = pytest.mark.parametrize("path", LIBRARY.values(), ids=LIBRARY.keys())


@functools.cache
def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def package_of(path):
    """The dotted package whose modules a file names with leading dots."""
    return ".".join(path.relative_to(ROOT).parent.parts)


def imported(node, package=""):
    """Dotted names that an import statement brings in; `from a import b` gives "a.b", as b may be a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        start = importlib.util.resolve_name("." * node.level + (node.module or ""), package or None)
        return [f"{start}.{alias.name}" for alias in node.names]
    return []


def imports(tree, package=""):
    """All imports, those inside functions too."""
    return [name for node in ast.walk(tree) for name in imported(node, package)]


def module_level_imports(node, package=""):
    """Imports that run when the module is imported: not those inside functions."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        return []
    below = [name for child in ast.iter_child_nodes(node) for name in module_level_imports(child, package)]
    return imported(node, package) + below


def roots(names):
    return {name.split(".")[0] for name in names}


def library_imports(path):
    """Modules of keras_sae that a file of keras_sae imports."""
    found = set()
    for name in imports(parse(path), package_of(path)):
        words = name.split(".")[1:] if name.split(".")[0] == "keras_sae" else []
        # The longest beginning of the name that is a module; what comes after it is something inside.
        modules = [".".join(words[:length]) for length in range(len(words), 0, -1)]
        found |= {next(module for module in modules if module in LIBRARY)} if words else set()
    return found


def test_the_imports_of_every_form_are_seen():
    tree = ast.parse(
        "import a.b, c as d\nfrom e import f\nfrom . import g\nfrom .h import i\n"
        "class K:\n    import l\ntry:\n    import m\nfinally:\n    pass\ndef n():\n    import o\n"
    )
    assert sorted(imports(tree, "p")) == ["a.b", "c", "e.f", "l", "m", "o", "p.g", "p.h.i"]
    assert sorted(module_level_imports(tree, "p")) == ["a.b", "c", "e.f", "l", "m", "p.g", "p.h.i"]


def test_the_files_are_found():
    assert {"autoencoder", "training.full_batch", *LEAVES} <= set(LIBRARY)
    assert {ROOT / "train" / "mnist.py", ROOT / "export" / "__main__.py"} <= set(OUTER)


@pytest.mark.parametrize("path", OUTER, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_folders_around_the_library_never_import_each_other(path):
    own = path.relative_to(ROOT).parts[0]
    others = {*SATELLITES, "tests"} - {own}
    assert roots(imports(parse(path), package_of(path))) & others == set()


@parametrize_library
def test_the_library_imports_none_of_the_folders_around_it(path):
    assert roots(imports(parse(path), package_of(path))) & {*SATELLITES, "tests"} == set()


def test_the_imports_of_the_library_have_no_cycle():
    graph = {name: library_imports(path) for name, path in LIBRARY.items()}
    assert graph["stack"] >= {"autoencoder", "training.lbfgs"}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


@pytest.mark.parametrize("name", LEAVES)
def test_the_leaves_import_nothing_of_the_library_but_its_errors(name):
    assert library_imports(LIBRARY[name]) <= {"errors"}


@pytest.mark.parametrize("name", READERS)
def test_the_readers_of_data_import_each_other_one_way(name):
    assert library_imports(LIBRARY[name]) <= READERS[name]


@parametrize_library
def test_tensorflow_and_other_backends_are_imported_only_inside_functions(path):
    only_where_needed = {"tensorflow", "tensorflow_datasets", "jax", "torch", "mlxtend", "matplotlib", "pyarrow", "PIL"}
    assert roots(module_level_imports(parse(path), package_of(path))) & only_where_needed == set()


@parametrize_library
def test_the_library_has_no_assert(path):
    assert [node.lineno for node in ast.walk(parse(path)) if isinstance(node, ast.Assert)] == []


@parametrize_library
def test_the_library_does_not_print(path):
    """Only cli.py does, to stderr, for the command lines."""
    calls = [node for node in ast.walk(parse(path)) if isinstance(node, ast.Call)]
    prints = [node for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
    if path.stem == "cli":
        prints = [p for p in prints if "file=sys.stderr" not in {ast.unparse(keyword) for keyword in p.keywords}]
    assert [node.lineno for node in prints] == []


@pytest.mark.parametrize("name", keras_sae.__all__)
def test_every_public_name_has_a_docstring_of_its_own(name):
    assert len(inspect.cleandoc(getattr(keras_sae, name).__doc__ or "")) > 20


@parametrize_library
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(parse(path))


def source_files():
    """Text files that git tracks, or would once added."""
    if not (ROOT / ".git").exists():
        return []
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    paths = [ROOT / name for name in listed]
    kinds = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".json", ".cfg", ""}
    return sorted(path for path in paths if path.is_file() and path.suffix in kinds)


# Root, then a folder where people and machines keep their own things; ../x, URLs and globs are no such paths.
MACHINE_PATH = r"(?<![\w.:/*$}])/(?:home|Users|root|work|mnt|private)/\w"
NOTE_TO_SELF = r"\b(?:TOD[O]|FIXM[E]|XX[X])\b"


def test_the_patterns_find_what_they_should():
    home = "/home" + "/me"  # in two parts, because this file is searched as well
    for line in (f"cd {home}", f'open("{home}/x")', f"--data={home}"):
        assert re.search(MACHINE_PATH, line)
    for line in ("../home/x", "https://a.org/home/x", "$PWD/home/x", "a/root/b"):
        assert not re.search(MACHINE_PATH, line)
    assert re.search(NOTE_TO_SELF, "# TO" + "DO: later")


@pytest.mark.skipif(not source_files(), reason="needs the git checkout, to know which files are source")
@pytest.mark.parametrize("pattern", [MACHINE_PATH, NOTE_TO_SELF], ids=["paths of one machine", "notes to self"])
def test_no_source_file_holds(pattern):
    found = []
    for path in source_files():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(pattern, line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert found == []
