"""Repositories on the Hugging Face Hub: hf://user/repository[@revision][/directory], or from the cache of it."""

import dataclasses
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from .. import extras
from ..errors import InputError
from .detection import BESIDE, LAYOUTS, PICKLES, one_of_several

SCHEME = "hf://"
SECONDS = 10  # to wait for the Hub
_ADDRESS = re.compile(r"hf://(?P<repository>[^/@]+/[^/@]+)(?:@(?P<revision>[^/]+))?(?:/(?P<directory>.+?))?/?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where files are on this machine, and their revision on the Hub, a commit."""

    path: pathlib.Path
    revision: str | None = None


def fetched(address: str) -> Place:
    """Return where the files of an address are, downloaded unless the cache has them: of one autoencoder, no others.

    Raises:
        InputError: no such address, repository, revision or directory; no network and no copy in the cache; several
            autoencoders.
    """
    repository, revision, directory = parsed(address)
    library = extras.imported("huggingface_hub", "read from the Hugging Face Hub with")
    snapshot = _snapshot(library, repository, revision, _names(directory), address, "load_sae")
    path = snapshot / directory
    if not _holds_one(path):
        raise InputError(_nothing(library, snapshot, repository, revision, directory, address))
    return Place(path, snapshot.name)


def fetched_files(address: str, names: Sequence[str]) -> pathlib.Path:
    """Return the directory of an address on this machine, with those of these files that it has, for `from_preset`.

    Raises:
        InputError: no such address, repository or revision; no network and no copy in the cache.
    """
    repository, revision, directory = parsed(address)
    library = extras.imported("huggingface_hub", "read from the Hugging Face Hub with")
    paths = [f"{directory}/{name}".lstrip("/") for name in names]
    return _snapshot(library, repository, revision, paths, address, "from_preset") / directory


def parsed(address: str) -> tuple[str, str | None, str]:
    """Return (user/repository, revision or None, directory or "") of an address. Raise InputError if it is none."""
    parts = _ADDRESS.fullmatch(address)
    if parts is None:
        raise InputError(f"Expected hf://user/repository[@revision][/directory]. Received: {address}")
    return parts["repository"], parts["revision"], parts["directory"] or ""


def _holds_one(path: pathlib.Path) -> bool:
    """Return whether there is a file, or a directory with the weights of an autoencoder."""
    return path.is_file() or any((path / layout.weights).is_file() for layout in LAYOUTS)


def check_digest(path: pathlib.Path, digest: str) -> None:
    """Raise InputError if the cache of the Hub holds a file under another sha256 than it has."""
    stored = path.resolve().name
    if path.is_symlink() and _SHA256.fullmatch(stored) and stored != digest:
        raise InputError(
            f"Expected a file with the sha256 {stored}, as on the Hub. Received: {path} with {digest}: it is damaged. "
            "Delete it, and load again."
        )


def _names(directory: str) -> list[str]:
    """Return the paths in a repository that may be of the autoencoder in a directory, or of the file of this path."""
    if directory.endswith((*PICKLES, ".safetensors", ".npz")):
        directory, _, name = directory.rpartition("/")
        extra = [name]
    else:
        extra = []
    files = [name for layout in LAYOUTS for name in (layout.weights, layout.config)]
    return [f"{directory}/{name}".lstrip("/") for name in dict.fromkeys([*files, *BESIDE, *extra])]


def _snapshot(
    library: Any, repository: str, revision: str | None, names: list[str], address: str, reader: str
) -> pathlib.Path:
    errors = extras.imported("huggingface_hub.errors")
    try:
        return pathlib.Path(
            library.snapshot_download(repository, revision=revision, allow_patterns=names, etag_timeout=SECONDS)
        )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise InputError(
            "Expected a repository, and a revision of it, on the Hugging Face Hub that you may read. Received: "
            f"{address}. Look for a typing error; of a private one, log in: hf auth login."
        ) from error
    except Exception as error:
        if not is_of_network(error):
            raise
        raise InputError(_offline(repository, revision, address, reader)) from error


def _offline(repository: str, revision: str | None, address: str, reader: str = "load_sae") -> str:
    directory = address.removeprefix(SCHEME).split("/", 2)[2:]
    include = f" --include '{directory[0].rstrip('/')}/*'" if directory else ""
    at = f" --revision {revision}" if revision else ""
    return (
        f"Expected {address} in the cache of the Hugging Face Hub, or a network. Received: neither. On a machine with "
        f"one: hf download {repository}{at}{include} --local-dir DIR; then here {reader}('"
        f"{'/'.join(['DIR', *directory])}')."
    )


def _nothing(
    library: Any, snapshot: pathlib.Path, repository: str, revision: str | None, directory: str, address: str
) -> str:
    """Return the message for a directory without an autoencoder of its own: with those below, if there are some."""
    try:
        files, offline = library.HfApi().list_repo_files(repository, revision=revision), False
    except Exception as error:
        if not is_of_network(error):
            raise
        files, offline = [str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()], True
    endings = [layout.weights for layout in LAYOUTS]
    inside = [name for name in files if name.startswith(f"{directory}/" if directory else "")]
    found = {
        name.removesuffix(ending).strip("/") for name in inside for ending in endings if name.endswith(f"/{ending}")
    } | {name for name in inside if name.endswith(PICKLES)}
    if found:
        return one_of_several(f"{SCHEME}{repository}{f'@{revision}' if revision else ''}", sorted(found))
    if offline:
        return _offline(repository, revision, address)
    received = ", ".join(sorted(inside)[:6]) or "no such directory"
    return f"Expected a sparse autoencoder in {address}. Received: {received}."


def is_of_network(error: Exception) -> bool:
    """Return whether an error is of the network, the Hub or its cache, as its package raises them."""
    return isinstance(error, OSError) or type(error).__module__.startswith("httpx")
