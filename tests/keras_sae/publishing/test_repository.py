"""A preset goes to a Hub and comes back, through the client that users have; the Hub is a stand-in on this machine."""

import hashlib

import huggingface_hub
import huggingface_hub.constants
import keras
import numpy as np
import pytest

import keras_sae
from keras_sae.errors import InputError
from keras_sae.publishing import repository
from keras_sae.runs.records import read_preset
from tests.keras_sae.conftest import raises, same_weights
from tests.keras_sae.publishing.hub_server import Hub

ADDRESS = "hf://me/numbers"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty Hub, to which this process is logged in, and an empty cache."""
    constants = huggingface_hub.constants
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with Hub() as hub:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def uploaded(hub, preset):
    assert repository.upload(preset, ADDRESS).startswith(f"{hub.url}/me/numbers/commit/")
    return hub


def test_one_repository_is_read_by_keras_by_saelens_and_by_this_library(uploaded, run):
    model = keras_sae.load(run)
    x = np.random.default_rng(1).standard_normal((5, 6)).astype("float32")
    for address in (ADDRESS, f"{ADDRESS}@main", f"{ADDRESS}@{uploaded.commit('me/numbers')}"):
        assert same_weights(keras_sae.from_preset(address), model)
    np.testing.assert_array_equal(keras.saving.load_model(ADDRESS)(x), model(x))
    found = keras_sae.load_sae(f"{ADDRESS}/saelens")
    np.testing.assert_allclose(found.transform(x), model.transform(x), atol=1e-6)
    np.testing.assert_allclose(found.reconstruct(x), model.reconstruct(x), atol=1e-6)


def test_only_what_is_needed_is_downloaded(uploaded):
    keras_sae.from_preset(ADDRESS)
    files = {line.rpartition("/")[2] for line in uploaded.asked if line.startswith("GET /me/numbers/resolve/")}
    assert files == {"run.json", "metrics.json", "preset.json", "model.keras"}


def test_the_card_names_the_address_and_what_else_reads_it(uploaded):
    text = uploaded.repositories["me/numbers"]["README.md"].decode()
    assert 'model = keras_sae.from_preset("hf://me/numbers")' in text
    assert 'keras.saving.load_model("hf://me/numbers")' in text
    assert 'sae_lens.SAE.from_pretrained("me/numbers", "saelens")' in text
    assert "models/" not in text


def test_a_later_upload_takes_away_what_is_not_there_any_more(uploaded, preset):
    uploaded.repositories["me/numbers"]["saelens/old.bin"] = b"old"
    repository.upload(preset, ADDRESS)
    assert "saelens/old.bin" not in uploaded.repositories["me/numbers"]
    assert "model.keras" in uploaded.repositories["me/numbers"]


def test_a_model_that_saelens_has_no_name_for_is_written_without(tmp_path, preset, monkeypatch):
    def refuse(*_):
        raise InputError("no name")

    monkeypatch.setattr(repository, "save_sae", refuse)
    repository.make(preset, tmp_path / "files", ADDRESS)
    assert not (tmp_path / "files" / "saelens").exists()
    assert "SAELens" not in (tmp_path / "files" / "README.md").read_text()


def test_files_of_all_readers_have_names_of_their_own(tmp_path, preset):
    repository.make(preset, tmp_path / "files", ADDRESS)
    for name, digest in read_preset(preset)["sha256"].items():  # none was written over
        assert hashlib.sha256((tmp_path / "files" / name).read_bytes()).hexdigest() == digest
    assert {path.name for path in (tmp_path / "files").iterdir()} >= {*repository.KERAS, "run.json", "saelens"}


def test_a_file_that_is_not_the_one_that_was_published(uploaded):
    files = uploaded.repositories["me/numbers"]
    files["model.keras"] = files["model.keras"][:-1] + b"x"
    with raises(InputError, "Expected ", "model.keras with the sha256 ", "as preset.json beside it says."):
        keras_sae.from_preset(ADDRESS)


def test_a_repository_without_a_preset(hub):
    hub.repositories["me/other"] = {"README.md": b"# A model"}
    message = "Expected a preset, with run.json and model.keras, in hf://me/other. Received: a repository without."
    with raises(InputError, message):
        keras_sae.from_preset("hf://me/other")
    with raises(InputError, "Expected a repository, and a revision of it, on the Hugging Face Hub"):
        keras_sae.from_preset("hf://me/nothing")


def test_without_a_network_it_says_so_at_once(hub, preset, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")  # where nobody listens
    with raises(InputError, "Expected a network, to write hf://me/numbers. Received: none, or no answer of the Hub."):
        repository.check_login(ADDRESS)
    with raises(
        InputError, "Expected hf://me/numbers in the cache of the Hugging Face Hub, or a network.", "from_preset"
    ):
        keras_sae.from_preset(ADDRESS)


def test_offline_mode_and_no_login(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with raises(InputError, "Expected a network, to write hf://me/numbers."):
        repository.check_login(ADDRESS)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.hf_api, "get_token", lambda: None)
    with raises(InputError, "Expected to be logged in to write hf://me/numbers. Received: no token. hf auth login"):
        repository.check_login(ADDRESS)


def test_somebody_who_may_not_write_there(hub, preset):
    hub.refused = True
    with raises(InputError, "Expected to write hf://me/numbers. Received: ", "Log in as a user who may write there"):
        repository.upload(preset, ADDRESS)


@pytest.mark.parametrize("address", ["hf://me/numbers@v1", "hf://me/numbers/inside"])
def test_addresses_that_cannot_be_written_to(address):
    with raises(InputError, f"Expected hf://user/repository to write to. Received: {address}."):
        repository.check_login(address)
