"""What the project takes from others: versions that were tested, and actions that are what they were."""

import pathlib
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NOT_TESTED = ("interchange-torch", "cluster", "benchmarks")  # large, and not in dev
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(line.partition("==")[0]): line.partition("==")[2] for line in lines}


def test_constraints_are_versions_and_no_addresses():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==\d[\w.]*", line)] == []
    assert len(constraints()) == len(lines)


@pytest.mark.parametrize("extra", ["", *(name for name in EXTRAS if name not in NOT_TESTED)])
def test_tested_versions_are_those_that_the_project_asks_for(extra):
    for text in EXTRAS[extra] if extra else PROJECT["dependencies"]:
        needed = Requirement(text)
        if needed.name != PROJECT["name"] and needed.name != "setuptools":  # which builds, and pip freeze leaves out
            assert needed.specifier.contains(constraints()[canonicalize_name(needed.name)]), text


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_actions_by_hash_and_may_only_read(path):
    text = path.read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert [action for action in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)] == []
    assert re.findall(r"^ *permissions:.*\n(.*)", text, flags=re.MULTILINE) == ["  contents: read"]
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")
    installed = re.findall(r"pip install (?!--|dist/)(\S+)", text)
    assert [package for package in installed if "==" not in package] == []
