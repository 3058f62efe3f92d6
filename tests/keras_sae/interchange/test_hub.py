"""hf:// addresses, against the layout of the Hub's cache made by hand, without a network."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

import huggingface_hub
import huggingface_hub.constants
import huggingface_hub.errors
import pytest

import keras_sae
from keras_sae.errors import InputError
from keras_sae.interchange import hub
from tests.keras_sae.conftest import raises, relative
from tests.keras_sae.interchange.files import FEATURES, relu_of, rows, saelens, tensors

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def stored(cache, source, name="me/saes", ref="main"):
    """Put the files below a directory into a cache, as of this repository: blobs by sha256, links to them."""
    repository = cache / f"models--{name.replace('/', '--')}"
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        blob = repository / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        link = repository / "snapshots" / COMMIT / path.relative_to(source)
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / ref).write_text(COMMIT)
    return repository / "snapshots" / COMMIT


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the Hub, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_an_autoencoder_in_a_directory_of_a_repository(cache, tmp_path):
    saelens(tmp_path / "source" / "blocks.8", architecture="standard")
    stored(cache, tmp_path / "source")
    for address in ("hf://me/saes/blocks.8", "hf://me/saes@main/blocks.8/", f"hf://me/saes@{COMMIT}/blocks.8"):
        ae = keras_sae.load_sae(address)
        assert relative(ae.encode(rows()), relu_of(tensors(), rows())[0]) < 1e-6
        assert (ae.origin["address"], ae.origin["revision"]) == (address, COMMIT)
        weights = tmp_path / "source" / "blocks.8" / "sae_weights.safetensors"
        assert ae.origin["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_the_run_keeps_where_it_is_from(cache, tmp_path):
    saelens(tmp_path / "source")
    stored(cache, tmp_path / "source")
    ae = keras_sae.load_sae("hf://me/saes")
    keras_sae.save(ae, tmp_path / "run")
    recorded = keras_sae.runs.read_config(tmp_path / "run")["origin"]
    assert recorded == dict(ae.origin)
    assert recorded["revision"] == COMMIT
    assert relative(keras_sae.load(tmp_path / "run").transform(rows()), ae.transform(rows())) == 0


def test_a_branch_or_tag_is_the_commit_that_it_names(cache, tmp_path):
    saelens(tmp_path / "source")
    stored(cache, tmp_path / "source", ref="v2")
    assert hub.fetched("hf://me/saes@v2").revision == COMMIT
    with raises(InputError, "Expected hf://me/saes in the cache"):
        hub.fetched("hf://me/saes")  # its main is not there


def test_without_a_network_it_says_what_to_download(cache):
    with raises(
        InputError,
        "Expected hf://me/saes@v1/layers.3 in the cache of the Hugging Face Hub, or a network. Received: neither.",
        "hf download me/saes --revision v1 --include 'layers.3/*' --local-dir DIR; then here load_sae('DIR/layers.3').",
    ):
        keras_sae.load_sae("hf://me/saes@v1/layers.3")


def test_a_directory_that_the_cache_has_not(cache, tmp_path):
    saelens(tmp_path / "source" / "a")
    stored(cache, tmp_path / "source")
    with raises(InputError, "Expected hf://me/saes/b in the cache", "--include 'b/*'"):
        keras_sae.load_sae("hf://me/saes/b")


def test_several_in_a_repository_are_listed(cache, tmp_path, monkeypatch):
    saelens(tmp_path / "source" / "a")
    stored(cache, tmp_path / "source")
    files = ["README.md", "a/cfg.json", "a/sae_weights.safetensors", "b/c/params.npz", "d.pt"]
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: files)
    line = "Received: hf://me/saes, with 3: a, b/c, d.pt. Name one: hf://me/saes/a"
    with raises(InputError, "Expected one sparse autoencoder.", line):
        keras_sae.load_sae("hf://me/saes")
    with raises(InputError, "Expected a sparse autoencoder in hf://me/saes/e. Received: no such directory."):
        keras_sae.load_sae("hf://me/saes/e")


def test_without_a_network_those_in_the_cache_are_listed(cache, tmp_path):
    saelens(tmp_path / "source" / "a")
    saelens(tmp_path / "source" / "b")
    stored(cache, tmp_path / "source")
    with raises(InputError, "Received: hf://me/saes, with 2: a, b. Name one: hf://me/saes/a"):
        keras_sae.load_sae("hf://me/saes")


def test_only_the_files_of_one_autoencoder_are_asked_for(cache, tmp_path, monkeypatch):
    asked = {}

    def download(repository, **options):
        asked.update(options, repository=repository)
        return str(saelens(tmp_path / "snapshot" / COMMIT / "a").parent)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert hub.fetched("hf://me/saes@v1/a") == hub.Place(tmp_path / "snapshot" / COMMIT / "a", COMMIT)
    assert (asked["repository"], asked["revision"]) == ("me/saes", "v1")
    assert {"a/cfg.json", "a/sae_weights.safetensors", "a/params.npz"} <= set(asked["allow_patterns"])
    assert not any("*" in name for name in asked["allow_patterns"])


def test_a_repository_that_is_not_there(cache, monkeypatch):
    response = type("Response", (), {"headers": {}, "request": None, "status_code": 404})()

    def download(*_, **__):
        raise huggingface_hub.errors.RepositoryNotFoundError("404", response=response)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with raises(InputError, "Expected a repository, and a revision of it,", "Received: hf://me/nothing."):
        keras_sae.load_sae("hf://me/nothing")


@pytest.mark.parametrize("address", ["hf://", "hf://me", "hf://me/", "hf:///saes"])
def test_what_is_no_address(cache, address):
    with raises(InputError, f"Expected hf://user/repository[@revision][/directory]. Received: {address}"):
        keras_sae.load_sae(address)


def test_a_blob_that_is_damaged(cache, tmp_path):
    saelens(tmp_path / "source")
    snapshot = stored(cache, tmp_path / "source")
    weights = snapshot / "sae_weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.resolve().write_bytes(content)
    with raises(InputError, "Expected a file with the sha256", "it is damaged. Delete it, and load again."):
        keras_sae.load_sae("hf://me/saes")


def test_the_package_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with raises(InputError, "Expected huggingface_hub to read from", "pip install 'keras-sae[interchange]'"):
        keras_sae.load_sae("hf://me/saes")


@pytest.mark.slow
def test_the_cache_and_offline_mode_of_the_environment_count(tmp_path):
    saelens(tmp_path / "source" / "a")
    stored(tmp_path / "hub", tmp_path / "source")
    code = f"print(keras_sae.load_sae('hf://me/saes/a').transform(numpy.ones((2, {FEATURES}))).shape)"
    variables = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    root = pathlib.Path(keras_sae.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", f"import keras_sae, numpy; {code}"],
        env=os.environ | variables,
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "(2, 9)"
