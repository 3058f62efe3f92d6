"""A preset as a repository on the Hugging Face Hub that Keras, SAELens and this library read.

README.md, run.json, preset.json, model.keras, ...     the preset, for `from_preset`
config.json, metadata.json, model.weights.h5           what is inside model.keras, for `keras.saving.load_model`
saelens/                                               what `save_sae` writes, if SAELens has a name for the method
"""

import contextlib
import pathlib
import shutil
import tempfile
import zipfile
from typing import Any

from .. import extras, runs
from ..errors import InputError
from ..interchange import hub, save_sae
from ..sparse_autoencoder import SparseAutoencoder
from .card import SAELENS
from .from_run import write_card

KERAS = ("config.json", "metadata.json", "model.weights.h5")


def check_address(address: str) -> str:
    """Return "user/repository" of an address that can be written to. Raise InputError for any other."""
    repository, revision, directory = hub.parsed(address)
    if revision or directory:
        raise InputError(f"Expected hf://user/repository to write to. Received: {address}. Leave out what follows it.")
    return repository


def check_login(address: str) -> None:
    """Raise InputError unless the Hub answers and knows who asks: at once, before anything is made."""
    check_address(address)
    library = extras.imported("huggingface_hub", "write to the Hugging Face Hub with")
    with _explained(address):
        library.HfApi().whoami()


def make(preset: pathlib.Path, out: pathlib.Path, address: str) -> None:
    """Write the files of a repository to a new directory."""
    shutil.copytree(preset, out)
    with zipfile.ZipFile(out / "model.keras") as archive:
        for name in KERAS:
            archive.extract(name, out)
    model = runs.load(out)
    if isinstance(model, SparseAutoencoder):
        with contextlib.suppress(InputError):  # SAELens has no name for the method
            save_sae(model, out / SAELENS)
    write_card(out, address)


def upload(preset: pathlib.Path, address: str) -> str:
    """Write a preset to its repository, which is made if it does not exist. Return the URL of the commit.

    Raises:
        InputError: no network, no login, or no right to write there.
    """
    library = extras.imported("huggingface_hub", "write to the Hugging Face Hub with")
    repository = check_address(address)
    with tempfile.TemporaryDirectory() as directory, _explained(address):
        make(preset, pathlib.Path(directory) / "files", address)
        api = library.HfApi()
        api.create_repo(repository, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=pathlib.Path(directory) / "files",
            commit_message="A preset of keras_sae",
            delete_patterns="*",  # what an earlier preset had and this one has not
        )
    return str(commit.commit_url)


@contextlib.contextmanager
def _explained(address: str) -> Any:
    """Raise InputError, in one line, for what the Hub or the network refuses."""
    errors = extras.imported("huggingface_hub.errors")
    try:
        yield
    except InputError:
        raise
    except errors.LocalTokenNotFoundError as error:
        raise InputError(f"Expected to be logged in to write {address}. Received: no token. hf auth login") from error
    except errors.HfHubHTTPError as error:
        raise InputError(
            f"Expected to write {address}. Received: {' '.join(str(error).split()):.200}. Log in as a user who may "
            "write there: hf auth login."
        ) from error
    except Exception as error:
        if not hub.is_of_network(error):
            raise
        raise InputError(f"Expected a network, to write {address}. Received: none, or no answer of the Hub.") from error
