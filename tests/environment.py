"""Virtual environments with some of the packages that are installed here and no others, made offline at once."""

import importlib.metadata
import pathlib
import sysconfig
import venv

from packaging.requirements import Requirement


def make(directory, requirements):
    """Make an environment with what the requirements need, linked from here. Return the path of its Python."""
    venv.create(directory, symlinks=True)
    links, scripts = pathlib.Path(directory) / "links", pathlib.Path(directory) / "bin"
    links.mkdir()
    for distribution in needed(requirements):
        for name in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            target = links / name
            if not target.exists():
                target.symlink_to(distribution.locate_file(name))
    paths = {"base": str(directory), "platbase": str(directory)}
    site = pathlib.Path(sysconfig.get_path("purelib", "venv", paths))
    (site / "links.pth").write_text(f"{links}\n")
    return scripts / "python"


def needed(requirements):
    """Return the distributions that the requirements need, and those that these need, and so on."""
    found, left = {}, [Requirement(text) for text in requirements]
    while left:
        requirement = left.pop()
        distribution = importlib.metadata.distribution(requirement.name)
        wanted = {"", *requirement.extras}
        if wanted <= found.get(distribution.name, (None, set()))[1]:
            continue
        found[distribution.name] = distribution, wanted
        for text in distribution.requires or []:
            further = Requirement(text)
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in wanted):
                left.append(further)
    return [distribution for distribution, _ in found.values()]
