"""Which library wrote a file or directory, by the names of its files."""

import dataclasses
import pathlib

from ..errors import InputError


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where a format keeps its weights and its configuration, relative to the directory of an autoencoder."""

    format: str
    weights: str
    config: str
    optional: bool = False  # whether it does without the configuration


LAYOUTS = (  # the first that fits
    Layout("saelens", "sae_weights.safetensors", "cfg.json"),
    Layout("sparsify", "sae.safetensors", "cfg.json"),
    Layout("llama_scope", "checkpoints/final.safetensors", "hyperparams.json"),
    Layout("llama_scope", "sae_weights.safetensors", "config.json"),
    Layout("gemma_scope", "params.npz", "config.json", optional=True),
    Layout("gemma_scope", "params.safetensors", "config.json", optional=True),
    Layout("dictionary_learning", "ae.pt", "config.json", optional=True),
)
FORMATS = (*dict.fromkeys(layout.format for layout in LAYOUTS), "openai")
PICKLES = (".pt", ".pth")
BESIDE = ("activation_scaler.json", "sparsity.safetensors")  # what else counts in a directory
LISTED = 20  # autoencoders in the message about several


@dataclasses.dataclass(frozen=True)
class Found:
    """The files of one autoencoder."""

    format: str
    weights: pathlib.Path
    config: pathlib.Path | None

    @property
    def directory(self) -> pathlib.Path:
        """The directory of the autoencoder."""
        return self.weights.parents[1] if self.weights.parent.name == "checkpoints" else self.weights.parent

    @property
    def place(self) -> pathlib.Path:
        """What names it: its directory, or its file if several may be in one directory."""
        return self.weights if self.format == "openai" else self.directory


def find(path: pathlib.Path, format: str) -> Found:
    """Return the files of the autoencoder at a path: its directory, or the file with its weights.

    Raises:
        InputError: there is none, or several; the message lists them.
    """
    if format not in ("auto", *FORMATS):
        raise InputError(f"Expected `format` as auto or one of {', '.join(FORMATS)}. Received: {format!r}.")
    if not path.exists():
        raise InputError(
            f"Expected the directory or file of a sparse autoencoder. Received: {path}, which does not exist."
        )
    found = candidates(path, format)
    if len(found) == 1:
        return found[0]
    if found:
        listed = [str(one.place.relative_to(path)) for one in found]
        raise InputError(one_of_several(str(path), listed))
    kind = "a sparse autoencoder" if format == "auto" else f"a sparse autoencoder in the format {format}"
    names = ", ".join(sorted(one.name for one in path.iterdir())[:6]) if path.is_dir() else path.name
    raise InputError(f"Expected {kind}: {_expected(format)}. Received: {path}, with {names or 'nothing'}.")


def one_of_several(where: str, names: list[str]) -> str:
    """Return the message that asks for one of several autoencoders."""
    names = sorted(names)
    listed = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
    return (
        f"Expected one sparse autoencoder. Received: {where}, with {len(names)}: {listed}. Name one: {where}/{names[0]}"
    )


def candidates(path: pathlib.Path, format: str = "auto") -> list[Found]:
    """Return the autoencoder at a path, or else all in the directories below it."""
    found = _in_file(path, format) if path.is_file() else _in_directory(path, format)
    if found is not None:
        return [found]
    return _below(path, format) if path.is_dir() else []


def _in_directory(directory: pathlib.Path, format: str) -> Found | None:
    for layout in LAYOUTS:
        weights, config = directory / layout.weights, directory / layout.config
        if format in ("auto", layout.format) and weights.is_file() and (config.is_file() or layout.optional):
            return Found(layout.format, weights, config if config.is_file() else None)
    return None


def _in_file(path: pathlib.Path, format: str) -> Found | None:
    directory = path.parents[1] if path.parent.name == "checkpoints" else path.parent
    found = _in_directory(directory, format)
    if found is not None and found.weights == path:
        return found
    return Found("openai", path, None) if format in ("auto", "openai") and path.suffix in PICKLES else None


def _below(directory: pathlib.Path, format: str) -> list[Found]:
    """Return all autoencoders in the directories below one, and its pickles, whose names say nothing."""
    inside = (_in_directory(one, format) for one in sorted(directory.rglob("*")) if one.is_dir())
    found = [one for one in inside if one is not None]
    pickles = (one for one in sorted(directory.glob("*")) if one.suffix in PICKLES)
    return found or [one for one in (_in_file(path, format) for path in pickles) if one is not None]


def _expected(format: str) -> str:
    fitting = [layout for layout in LAYOUTS if format in ("auto", layout.format)]
    texts = [f"{layout.weights}{'' if layout.optional else f' with {layout.config}'}" for layout in fitting]
    return ", or ".join(dict.fromkeys([*texts, *(["a .pt file"] if format in ("auto", "openai") else [])]))
