import errno
import io
import json
import shutil
import types
import zipfile

import keras
import numpy as np
import pytest
import scipy.sparse

import keras_sae
from keras_sae import KLSparsity, SparseAutoencoder, SummedBinaryCrossentropy, runs
from keras_sae.errors import InputError
from keras_sae.files import write_aside
from keras_sae.runs import run_directories
from keras_sae.runs.records import read_metrics
from tests.keras_sae.conftest import autoencoder, raises, same_weights, two_layers

MODELS = {
    "autoencoder": lambda: autoencoder(dtype="float32"),
    "tied autoencoder": lambda: autoencoder(dtype="float32", tied=True, activation="tanh", corruption=0.25),
    "stack": lambda: two_layers(dtype="float32"),
    "classifier": lambda: two_layers(dtype="float32").classifier(3, weight_decay=0.1),
}


def content(directory):
    """{relative path: bytes} of every file below the folder."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", MODELS)
def test_saved_model_comes_back(kind, x, tmp_path):
    model, run = MODELS[kind](), tmp_path / "a" / "run"
    keras_sae.save(model, run)
    copy = keras_sae.load(run)
    assert type(copy) is type(model)
    assert same_weights(copy, model)
    np.testing.assert_allclose(copy(x), model(x), rtol=1e-6)
    assert set(content(run)) == {"run.json", "metrics.json", "model.keras", "README.md"}


@pytest.mark.parametrize("kind", MODELS)
def test_encoder_comes_back(kind, x, tmp_path):
    model = MODELS[kind]()
    keras_sae.save(model, tmp_path / "run")
    encoder = keras_sae.load_encoder(tmp_path / "run")
    original = model.encoder if hasattr(model, "encoder") else model.get_layer("encoder")
    assert isinstance(encoder, keras.Model)
    assert encoder.output_shape == original.output_shape
    np.testing.assert_allclose(encoder(x), original(x), rtol=1e-6)


def test_the_encoder_is_what_was_learned_without_labels_if_the_run_kept_it(x, tmp_path):
    stack = two_layers(dtype="float32")
    classifier = stack.classifier(3)
    finetuned = classifier.get_layer("encoder")
    finetuned.set_weights([weights + 1 for weights in finetuned.get_weights()])
    keras_sae.save(classifier, tmp_path / "run", pretrained=stack)
    np.testing.assert_allclose(keras_sae.load_encoder(tmp_path / "run")(x), stack.encode(x), rtol=1e-6)
    np.testing.assert_allclose(keras_sae.load_encoder(tmp_path / "run", finetuned=True)(x), finetuned(x), rtol=1e-6)
    assert same_weights(runs.load_pretrained(tmp_path / "run"), stack)
    card = (tmp_path / "run" / "README.md").read_text()
    assert 'finetuned = keras_sae.load_encoder("RUN", finetuned=True)' in card
    (tmp_path / "run" / runs.PRETRAINED).write_bytes(b"PK")
    with pytest.raises(InputError, match=r"Expected a model that Keras can read\. Received: .*pretrained\.keras"):
        keras_sae.load_encoder(tmp_path / "run")


def test_fine_tuned_encoder_comes_back(x, labels, tmp_path):
    classifier = two_layers(dtype="float32").classifier(3)
    keras_sae.fit_lbfgs(classifier, x, labels, max_iterations=2, verbose=0)
    keras_sae.save(classifier, tmp_path / "run")
    encoder = keras_sae.load_encoder(tmp_path / "run")
    np.testing.assert_allclose(encoder(x), classifier.get_layer("encoder")(x), rtol=1e-6)


def test_loss_comes_back(x, labels, tmp_path):
    ae = autoencoder(dtype="float32", sparsity=KLSparsity(0.2, 1.0))
    ae.compile(keras.optimizers.SGD(0.125), loss=SummedBinaryCrossentropy())
    ae.fit(x, verbose=0)
    classifier = two_layers(dtype="float32").classifier(3, weight_decay=0.1)
    classifier.fit(x, labels, verbose=0)
    for model, data in ((ae, (x,)), (classifier, (x, labels))):
        run = tmp_path / type(model).__name__
        keras_sae.save(model, run)
        copy = keras_sae.load(run)
        assert type(copy.loss) is type(model.loss)
        assert keras_sae.objective(copy, *data).parts == pytest.approx(
            keras_sae.objective(model, *data).parts, rel=1e-6
        )
        copy.fit(*data, verbose=0)  # training goes on


def test_run_that_start_began_is_finished(tmp_path):
    run = runs.start(tmp_path / "run", {"title": "Own title", "settings": {"units": [4]}})
    assert (run / "checkpoints").is_dir()
    keras_sae.save(autoencoder(), run, metrics={"seconds": 1.5})
    config = runs.read_config(run)
    assert (config["title"], config["settings"]) == ("Own title", {"units": [4]})
    assert config["versions"] == runs.versions()
    assert json.loads((run / "metrics.json").read_text()) == {"seconds": 1.5}


def test_config_of_a_run_saved_without_one_remakes_the_model(tmp_path):
    ae = autoencoder(tied=True)
    keras_sae.save(ae, tmp_path / "run")
    copy = keras.saving.deserialize_keras_object(runs.read_config(tmp_path / "run")["model"])
    assert copy.get_config() == ae.get_config()


def test_versions_name_what_a_result_depends_on():
    found = runs.versions()
    assert set(found) == {"python", "backend", "keras_sae", "keras", "tensorflow", "numpy", "scipy"}
    assert found["keras"] == keras.__version__
    assert found["keras_sae"] == keras_sae.__version__


@pytest.mark.parametrize(
    "use", [runs.check_free, lambda d: runs.start(d, {}), lambda d: keras_sae.save(autoencoder(), d)]
)
@pytest.mark.parametrize(
    ("files", "what"), [(["run.json", "model.keras"], "holds another run"), (["notes.txt"], "is not empty")]
)
def test_refuses_a_folder_that_holds_something_and_changes_nothing(files, what, use, tmp_path):
    for name in files:
        (tmp_path / name).write_text("{}")
    before = content(tmp_path)
    parts = [
        "Expected a new or empty directory",
        f"Received: {tmp_path}, which {what}. Nothing was changed.",
        "Name another one",
    ]
    with raises(InputError, *parts):
        use(tmp_path)
    assert content(tmp_path) == before


def test_refuses_a_file_as_run(tmp_path):
    path = tmp_path / "file"
    path.write_text("own")
    with raises(InputError, "Expected a directory for the run", f"Received: {path}, which is a file"):
        runs.start(path, {})
    assert path.read_text() == "own"


def test_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "run"
    with raises(InputError, "Expected a directory that can be written to", f"Received: {path} (Not a directory)"):
        runs.start(path, {})


def forbidden(*_, **__):
    raise PermissionError(errno.EACCES, "Permission denied", "somewhere")


@pytest.mark.parametrize("place", ["keras_sae.files.tempfile.mkstemp", "pathlib.Path.mkdir"])
def test_folder_without_permission(place, tmp_path, monkeypatch):
    """By a stand-in, because root may write anywhere."""
    monkeypatch.setattr(place, forbidden)
    expected = f"Received: {tmp_path / 'run'} (Permission denied)."
    with raises(InputError, "Expected a directory that can be written to.", expected):
        runs.start(tmp_path / "run", {})


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: None], ids=["an empty folder", "a new one"])
def test_disk_without_space(make, tmp_path, monkeypatch):
    """Nothing is left that would stand in the way of the next try, with the same --out."""
    run, free = tmp_path / "run", [99_999_999, 100_000_000]
    make(run)
    usage = types.SimpleNamespace
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(total=10**12, used=0, free=free.pop(0)))
    expected = [f"Expected 0.1 GB of room on the disk of {run}", "Received: 0.1 GB free", "Free some space"]
    with raises(InputError, *expected):
        runs.start(run, {})
    assert content(tmp_path) == {}
    runs.start(run, {})
    assert (run / "run.json").exists()


STOPPED = {"data": "ten digits", "settings": {"units": [4]}}


def test_stopped_run_that_can_be_resumed(tmp_path):
    run = runs.start(tmp_path / "run", STOPPED)
    before = content(run)
    assert runs.unfinished(run) == {**STOPPED, "versions": runs.versions()}
    assert runs.unfinished(str(run)) == runs.unfinished(run)
    assert runs.resume(run, STOPPED) == []
    assert content(run) == before


def test_what_a_kill_left_of_a_file_is_gone_after_a_resume(tmp_path):
    run = runs.start(tmp_path / "run", STOPPED)
    before = content(run)
    for path in (run / "model.keras", run / "README.md", run / "run.json", run / "checkpoints" / "layer_1.npz"):
        aside = write_aside(path).__enter__()  # and never left
        aside.write_bytes(b"half")
    (run / ".notes.txt").write_text("own")
    runs.resume(run, STOPPED)
    assert content(run) == {**before, ".notes.txt": b"own"}


def test_stopped_run_of_other_versions(tmp_path, monkeypatch):
    run, now = runs.start(tmp_path / "run", STOPPED), runs.versions()
    monkeypatch.setattr(run_directories, "versions", lambda: {**now, "numpy": "99.0", "new": "1.0"})
    assert runs.resume(run, STOPPED) == ["numpy", "new"]


def test_stopped_run_of_other_data(tmp_path):
    run = runs.start(tmp_path / "run", STOPPED)
    expected = ["Expected the data that the run had: ten digits. Received: nine digits.", "start a new run"]
    with raises(InputError, *expected):
        runs.resume(run, {**STOPPED, "data": "nine digits"})


def test_stopped_run_of_data_that_are_described_alike(tmp_path):
    run = runs.start(tmp_path / "run", {**STOPPED, "fingerprint": {"rows": "a", "labels": "b"}})
    runs.resume(run, {**STOPPED, "fingerprint": {"rows": "a", "labels": "b"}})
    with raises(InputError, "Expected the data that the run had. Received: other labels. Give it the same, or start"):
        runs.resume(run, {**STOPPED, "fingerprint": {"rows": "a", "labels": "c"}})


def test_a_start_that_was_killed_starts_again(tmp_path):
    """Before its record is in place: with its lock, a record that is half written, a directory for checkpoints."""
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    for name in (".lock", ".locked-by", ".run-a1b2.partial.json"):
        (run / name).write_text("{")
    runs.start(run, STOPPED)
    assert sorted(path.name for path in run.iterdir()) == [".lock", ".locked-by", "checkpoints", "run.json"]
    (tmp_path / "other" / "checkpoints").mkdir(parents=True)
    (tmp_path / "other" / "checkpoints" / "mine").touch()
    with raises(InputError, "which is not empty. Nothing was changed."):
        runs.start(tmp_path / "other", STOPPED)


def test_a_run_without_its_directory_for_checkpoints_is_resumed(tmp_path):
    run = runs.start(tmp_path / "run", STOPPED)
    (run / "checkpoints").rmdir()
    runs.resume(run, STOPPED)
    assert (run / "checkpoints").is_dir()


def test_a_name_that_is_no_utf8(tmp_path):
    with raises(InputError, "Expected a name of UTF-8 for the directory of the run, as TensorFlow does. Received: "):
        runs.check_free(tmp_path / "a\udcff")


@pytest.mark.parametrize("resume", [runs.unfinished, lambda run: runs.resume(run, STOPPED)])
def test_no_stopped_run(resume, tmp_path):
    run = tmp_path / "run"
    with raises(InputError, "Expected the directory of a run that was stopped", f"{run}, which has no run.json"):
        resume(run)
    runs.start(run, STOPPED)
    (run / "run.json").write_text('{"data": ')
    with raises(
        InputError, f"Expected a JSON object, as training writes it. Received: {run / 'run.json'}, which cannot"
    ):
        resume(run)
    (run / "model.keras").write_bytes(b"")
    with raises(InputError, f"Expected a run that was stopped. Received: {run}, which is finished: see its README.md"):
        resume(run)


def test_empty_folder_and_new_folder_are_free(tmp_path):
    runs.check_free(tmp_path)
    runs.check_free(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def unfinished(path):
    path.mkdir()
    (path / "run.json").write_text("{}")


def other(path):
    path.mkdir()
    (path / "notes.txt").write_text("")


def damaged(path):
    unfinished(path)
    (path / "model.keras").write_bytes(b"PK, but no archive")


NO_RUN = {
    "missing": (lambda path: None, ["does not exist"]),
    "a file": (lambda path: path.write_text(""), ["which is a file", "Name the directory it is in"]),
    "unfinished": (unfinished, ["a run that did not finish", "Resume its training first"]),
    "another folder": (other, ["a directory with: notes.txt", "Name the directory of a run"]),
    "an empty folder": (lambda path: path.mkdir(), ["a directory with: nothing"]),
    "damaged": (damaged, ["model.keras, which cannot be read: "]),
}


@pytest.mark.parametrize("load", [keras_sae.load, keras_sae.load_encoder])
@pytest.mark.parametrize("case", NO_RUN)
def test_load_of_what_is_no_run(case, load, tmp_path):
    make, parts = NO_RUN[case]
    make(tmp_path / "run")
    expected = "a model that Keras can read" if case == "damaged" else "a run directory, with run.json and model.keras"
    with raises(InputError, f"Expected {expected}. Received: {tmp_path / 'run'}", *parts):
        load(tmp_path / "run")


def test_truncated_model_file(tmp_path):
    keras_sae.save(autoencoder(), tmp_path / "run")
    path = tmp_path / "run" / "model.keras"
    path.write_bytes(path.read_bytes()[:-300])
    with raises(InputError, "Expected a model that Keras can read", f"Received: {path}"):
        keras_sae.load(tmp_path / "run")


def test_failed_save_leaves_no_model(tmp_path, monkeypatch):
    def fail(self, path, **options):
        path.write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(SparseAutoencoder, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        keras_sae.save(autoencoder(), tmp_path / "run")
    assert "model.keras" not in content(tmp_path / "run")
    assert not [name for name in content(tmp_path / "run") if name.startswith(".")]


def test_examples(tmp_path, x):
    runs.save_examples(tmp_path / "examples.npz", x)
    np.testing.assert_array_equal(runs.load_examples(tmp_path)[0], x.astype("float32"))
    assert list(content(tmp_path)) == ["examples.npz"]


def test_run_without_examples(tmp_path):
    cure = "Save the model with examples=x, a few hundred rows of data, or write one: keras_sae.runs.save_examples("
    with raises(InputError, f"Expected {tmp_path / 'examples.npz'}", "Received a run without it", cure):
        runs.load_examples(tmp_path)


MEANINGS = {"accuracy_fine": "of all", "accuracy": "of some", "num_": "number of examples"}


def test_card(tmp_path):
    run = tmp_path / "run"
    config = {"title": "Own title", "command": "python -m train.own --rho 0.1", "data": "ten digits"}
    runs.start(run, {**config, "settings": {"units": [4, 3], "rho": 0.1}})
    (run / "features.png").write_bytes(b"")
    metrics = {"accuracy_greedy": 0.123456789, "accuracy_finetuned": 0.9767, "num_train": 60000, "own": 2.0}
    keras_sae.save(autoencoder(), run, metrics=metrics, meanings=MEANINGS)
    lines = (run / "README.md").read_text().splitlines()
    assert lines[0] == "# Own title"
    for line in [
        "    python -m train.own --rho 0.1",
        "Data: ten digits.",
        'model = keras_sae.load("RUN")  # this directory',
        f"`python -m export {run} --out DIR` writes the encoder as SavedModel and LiteRT file.",
        "| accuracy_greedy | 0.12346 | of some |",
        "| accuracy_finetuned | 0.9767 | of all |",
        "| num_train | 60,000 | number of examples |",
        "| own | 2 |  |",
        "![features](features.png)",
        "| units | [4, 3] |",
        "| rho | 0.1 |",
        f"| version of keras | {keras.__version__} |",
    ]:
        assert line in lines
    assert "![curves](curves.png)" not in lines
    assert runs.card(run).splitlines() == lines


@pytest.mark.parametrize("number", [2, 51])
def test_card_of_a_table_says_what_becomes_0_and_1(number, tmp_path):
    names = [f"a*{i}" for i in range(number)]
    config = {"feature_names": names, "low": [0.5] * number, "high": [1 / 3] * number}
    keras_sae.save(autoencoder(), tmp_path / "run", config)
    card = (tmp_path / "run" / "README.md").read_text()
    more = " 1 more columns are in run.json." * (number > 50)
    said = "Inside the model each column is scaled; what lies beyond is cut off."
    assert f"## Columns\n\n{said}{more}\n\n| column | becomes 0 | becomes 1 |\n" in card
    assert card.count("| 0.5 | 0.333333 |\n") == min(number, 50)
    assert "| a\\*0 | 0.5 | 0.333333 |" in card


@pytest.mark.parametrize(
    "changed",
    [{"low": [0]}, {"low": 0.0, "high": 1.0}, {"high": ["x", 1]}, {"low": None}],
    ids=str,
)
def test_card_of_a_run_whose_ranges_are_not_known(changed, tmp_path):
    """After whitening they are not those of columns; or the record is damaged."""
    config = {"feature_names": ["a", "b"], "low": [0, 0], "high": [1, 1]} | changed
    keras_sae.save(autoencoder(), tmp_path / "run", config)
    assert "## Columns" not in (tmp_path / "run" / "README.md").read_text()


def test_card_of_intervals_cautions_and_notes(tmp_path):
    config = {"notes": ["3 classes: a 2, b 1, c 9"], "settings": {}}
    runs.start(tmp_path / "run", config)
    metrics = {"accuracy": 0.8, "accuracy_low": 0.490162, "accuracy_high": 0.943318, "own_low": 1}
    keras_sae.save(
        autoencoder(), tmp_path / "run", metrics=metrics, meanings={"accuracy": "of all"}, cautions=["it is no better"]
    )
    text = (tmp_path / "run" / "README.md").read_text()
    assert "| accuracy | 0.8 (95 % interval 0.49016 to 0.94332) | of all |\n| own_low | 1 |  |\n" in text
    assert "Cautions:\n\n- it is no better\n\nNotes on the data:\n\n- 3 classes: a 2, b 1, c 9\n\n## Use" in text


def test_card_of_numbers_without_meanings(tmp_path):
    keras_sae.save(autoencoder(), tmp_path / "run", metrics={"loss": 0.25})
    lines = (tmp_path / "run" / "README.md").read_text().splitlines()
    assert lines[lines.index("## Measured") :][2:5] == ["| number | value |", "|---|---|", "| loss | 0.25 |"]


def test_card_of_a_run_without_a_title(tmp_path):
    keras_sae.save(autoencoder(), tmp_path / "own_run")
    card = (tmp_path / "own_run" / "README.md").read_text()
    assert card.startswith("# own_run\n")
    assert "## Measured" not in card
    assert "Made by" not in card


# --- runs of other versions ---


def test_runs_of_earlier_versions_have_their_record_in_config_json(tmp_path, x):
    run, ae = tmp_path / "run", autoencoder(dtype="float32")
    assert not runs.is_run(tmp_path)
    runs.start(run, STOPPED)
    (run / "run.json").rename(run / "config.json")
    assert runs.is_run(run)
    assert runs.resume(run, STOPPED) == []
    keras_sae.save(ae, run, metrics={"num_train": 10}, meanings=MEANINGS)
    assert set(content(run)) == {"config.json", "metrics.json", "model.keras", "README.md"}
    assert runs.read_config(run)["meanings"] == {"num_train": "number of examples"}
    np.testing.assert_allclose(keras_sae.load(run)(x), ae(x), rtol=1e-6)
    with raises(InputError, "which holds another run"):
        runs.check_free(run)


@pytest.mark.parametrize(("made", "named"), [("9.0.0", True), ("0.99.1rc1", True), ("0.1.99", False), ("", False)])
def test_a_run_of_a_newer_version_that_cannot_be_loaded_says_so(made, named, tmp_path, x):
    run, ae = tmp_path / "run", autoencoder(dtype="float32")
    keras_sae.save(ae, run)
    record = runs.read_config(run)
    (run / "run.json").write_text(json.dumps({**record, "versions": {**record["versions"], "keras_sae": made}}))
    np.testing.assert_allclose(keras_sae.load(run)(x), ae(x), rtol=1e-6)  # it can be loaded
    archive = run / "model.keras"
    archive.write_bytes(replaced(archive.read_bytes(), b"SparseAutoencoder", b"FuturisticEncoder"))
    with pytest.raises(InputError, match=r"Expected a model that Keras can read") as caught:
        keras_sae.load(run)
    newer = f"made by keras_sae {made} (this is {keras_sae.__version__}: pip install --upgrade keras-sae)."
    assert (newer in str(caught.value)) == named


def replaced(content, old, new):
    """Return a .keras file, with these bytes in its JSON files replaced."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data.replace(old, new) if name.endswith(".json") else data)
    return made.getvalue()


def test_rows_that_a_run_keeps_for_its_exports(tmp_path):
    """Of every kind that models take; as many as are enough, from first to last."""
    x = np.arange(2400.0).reshape(1200, 2)
    sparse = scipy.sparse.csr_matrix(x)
    keras_sae.save(autoencoder(), tmp_path / "run", examples=sparse, labels=np.arange(1200), calibration=x.tolist())
    found, labels = runs.load_examples(tmp_path / "run")
    np.testing.assert_array_equal(found, x[::2].astype("float32"))
    np.testing.assert_array_equal(labels, np.arange(1200)[::2])
    found, labels = runs.load_examples(tmp_path / "run", "calibration.npz")
    np.testing.assert_array_equal(found, x[::6])
    assert labels is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"examples": [1.0]}, "Expected examples of shape (examples, features). Received: shape (1,)."),
        (
            {"calibration": np.ones((0, 2))},
            "Expected calibration of shape (examples, features). Received: shape (0, 2).",
        ),
        (
            {"examples": np.ones((3, 2)), "labels": [1]},
            "Expected labels of shape (3,), one an example. Received: shape (1",
        ),
    ],
)
def test_rows_of_another_shape_are_not_kept(options, message, tmp_path):
    with raises(InputError, message):
        keras_sae.save(autoencoder(), tmp_path / "run", **options)
    assert not (tmp_path / "run" / "model.keras").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": np.zeros(5, int)}, "Expected examples, rows with these labels. Received: labels alone."),
        ({"labels": np.zeros(1999, int)}, "Expected labels of shape (2000,), one an example. Received: shape (1999,)."),
        (
            {"labels": np.full(2000, "a")},
            "Expected labels that are integers, the numbers of classes. Received: type <U1",
        ),
        ({"labels": np.zeros(2000)}, "Received: type float64"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_anything_is_written(options, message, tmp_path):
    """Also if so many rows are thinned to as many as their labels are."""
    rows = {} if len(options["labels"]) == 5 else {"examples": np.zeros((2000, 3))}
    with raises(InputError, message):
        keras_sae.save(autoencoder(dtype="float32"), tmp_path / "run", **rows, **options)
    assert not (tmp_path / "run").exists()


def test_rows_of_zeros_nearly_alone_can_be_read_again(tmp_path):
    """Packed they would be refused, as an archive that unpacks to far more than it has."""
    x = np.zeros((600, 30_000), "float32")
    x[5, 7] = 1
    runs.save_examples(tmp_path / "examples.npz", x)
    assert np.array_equal(runs.load_examples(tmp_path)[0], x)
    runs.save_examples(tmp_path / "examples.npz", x[:10])
    assert (tmp_path / "examples.npz").stat().st_size < 10_000


def test_numbers_of_numpy_and_paths_are_kept(tmp_path):
    config = {"data": tmp_path, "units": np.int64(3), "scale": np.arange(2)}
    keras_sae.save(autoencoder(dtype="float32"), tmp_path / "run", config, {"accuracy": np.float32(0.5)})
    assert read_metrics(tmp_path / "run") == {"accuracy": 0.5}
    record = runs.read_config(tmp_path / "run")
    assert {name: record[name] for name in config} == {"data": str(tmp_path), "units": 3, "scale": [0, 1]}


def test_what_json_cannot_hold_leaves_no_run(tmp_path):
    with pytest.raises(TypeError, match="Expected what JSON can hold"):
        keras_sae.save(autoencoder(dtype="float32"), tmp_path / "run", metrics={"accuracy": object()})
    assert not (tmp_path / "run").exists()


def test_a_config_replaces_that_of_the_start(tmp_path):
    runs.start(tmp_path / "run", {"units": 3, "seed": 1})
    keras_sae.save(autoencoder(dtype="float32"), tmp_path / "run", {"units": 4})
    record = runs.read_config(tmp_path / "run")
    assert (record["units"], "seed" in record, "keras" in record["versions"]) == (4, False, True)
