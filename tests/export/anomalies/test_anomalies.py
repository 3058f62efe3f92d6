"""python -m export.anomalies: every row's error, and what is odd in it, by a run and by its exports."""

import itertools
import json
import shutil

import numpy as np
import pyarrow.csv
import pytest
from PIL import Image

import keras_sae
from export import runtimes
from export.features import outputs
from keras_sae import runs
from tests.export.anomalies.conftest import NAMES, rows, table
from tests.export.conftest import pairs, through


@pytest.fixture(scope="module")
def by_hand(stack, usual, x):
    """The terms of each row's error, and their shares of what is odd, in NumPy's float64."""
    low, high = rows(300, 1).min(axis=0).astype("float64"), rows(300, 1).max(axis=0)
    scaled = (x - low) / (high - low)
    (first, last), (second, third) = (pairs(autoencoder.get_weights()) for autoencoder in stack.autoencoders)
    xhat = through([first, second, third, last], np.clip(scaled, 0, 1))
    terms = (xhat - scaled) ** 2 / 2
    times = terms / np.maximum(usual.columns, 0.01 * usual.columns.mean())
    return {"terms": terms, "shares": times / times.sum(axis=1, keepdims=True), "expected": low + xhat * (high - low)}


def check(found, by_hand, threshold):
    errors, shares = by_hand["terms"].sum(axis=1), by_hand["shares"]
    np.testing.assert_allclose(found["error"], errors, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(found["odd"], found["error"] > threshold)
    for name, terms in zip(NAMES, by_hand["terms"].T, strict=True):
        np.testing.assert_allclose(found[f"error_{name}"], terms, rtol=1e-2, atol=1e-6)
    for place in range(3):
        named = [NAMES.index(name) for name in found[f"column_{place + 1}"]]
        np.testing.assert_allclose(found[f"share_{place + 1}"], np.sort(shares)[:, -1 - place], rtol=1e-2, atol=1e-4)
        np.testing.assert_allclose(found[f"share_{place + 1}"], shares[range(40), named], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("model", ["run", "saved_model", "litert"])
def test_the_output_holds_what_numpy_computes(
    main, run, exported, data, usual, by_hand, tmp_path, capfd, model, suffix
):
    out = tmp_path / f"scores{suffix}"
    command = (run,) if model == "run" else (exported, "--model", model)
    main(*command, "--data", data, "--labels", "id", "--out", out, "--batch-size", 11)
    found = table(out)
    shown = [f"{kind}_{place}" for place in (1, 2, 3) for kind in ("column", "share")]
    assert list(found) == ["error", "odd", *shown, *(f"error_{name}" for name in NAMES), "id"]
    assert found["id"].tolist() == [f"n{i}" for i in range(40)]
    check(found, by_hand, usual.quantiles[0.99])
    assert capfd.readouterr().err == ""


def test_a_row_and_a_column_that_were_made_odd_are_found(main, run, data, usual, by_hand, tmp_path, capsys):
    main(run, "--data", data, "--labels", "id", "--out", tmp_path / "scores.csv")
    found = table(tmp_path / "scores.csv")
    assert found["error"].argmax() == 7
    assert found["odd"][7]
    assert found["column_1"][7] == "heat"
    assert found["odd"].sum() < 4
    printed = capsys.readouterr().out.splitlines()
    number = found["odd"].sum()
    assert printed[1].startswith(f"{tmp_path / 'scores.csv'}: 40 rows (")
    said, threshold = printed[2].removesuffix(", the 0.99 quantile of 199 held-out rows").rsplit(" ", 1)
    assert said == f"odd         {number} of 40 rows ({number / 40:.2%}): error above"
    assert float(threshold) == pytest.approx(usual.quantiles[0.99], rel=1e-3)
    assert printed[4].startswith("oddest      row, from 0: error; its oddest columns")
    assert len(printed) == 5 + 5
    share, value = by_hand["shares"][7, 3], rows(40, 4)[7, 3] + np.float32(0.01)
    expected = by_hand["expected"][7, 3]
    assert printed[5].startswith(
        f"         7 n7: {by_hand['terms'][7].sum():.4g}; heat {share:.0%}, {value:.4g} ({expected:.4g}); "
    )
    order = np.argsort(-found["error"])[:5]
    assert [line.split()[0] for line in printed[5:]] == [str(place) for place in order]


def test_an_export_shows_values_without_what_was_expected(main, exported, data, x, tmp_path, capsys):
    main(exported, "--data", data, "--out", tmp_path / "scores")
    line = capsys.readouterr().out.splitlines()[6]
    assert line.startswith("         7: ")
    assert f", {x[7, 3]:.4g}; " in line


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_command_that_was_stopped_goes_on_and_sums_up_all_rows(
    main, exported, data, tmp_path, monkeypatch, capsys, suffix
):
    monkeypatch.setattr(outputs, "PART_BYTES", 8 * 60)
    command = (exported, "--model", "litert", "--data", data, "--batch-size", 8, "--out")
    out, undisturbed = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    main(*command, undisturbed)
    expected = capsys.readouterr().out.splitlines()[3:]
    calls, call = itertools.count(), runtimes.Model.__call__

    def interrupted(model, rows):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return call(model, rows)

    with monkeypatch.context() as patched:
        patched.setattr(runtimes.Model, "__call__", interrupted)
        with pytest.raises(SystemExit):
            main(*command, out)
    said = "export.anomalies: interrupted. 16 rows are done: the same command resumes from there."
    assert said in capsys.readouterr().err
    main(*command, out)
    printed = capsys.readouterr().out.splitlines()
    assert "Resuming after 16 of 40 rows." in printed
    assert printed[4:] == expected
    for name, values in table(undisturbed).items():
        np.testing.assert_array_equal(table(out)[name], values)


def test_another_threshold_does_not_go_on_with_an_output(main, refused, exported, data, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "PART_BYTES", 8 * 60)
    command = (exported, "--model", "litert", "--data", data, "--batch-size", 8, "--out", tmp_path / "out.csv")
    calls, write = itertools.count(), outputs.Output.write

    def interrupted(*arguments):
        if next(calls) == 1:
            raise KeyboardInterrupt
        write(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(outputs.Output, "write", interrupted)
        with pytest.raises(SystemExit):
            main(*command)
    assert "was begun with. Received: another --threshold. Give the first again" in refused(*command, "--quantile", 0.5)


def test_one_row_is_enough(main, run, x, tmp_path, capsys):
    (tmp_path / "one.csv").write_text(f"{','.join(NAMES)}\n{','.join(map(str, x[7].tolist()))}\n")
    main(run, "--data", tmp_path / "one.csv", "--out", tmp_path / "out.csv")
    found = table(tmp_path / "out.csv")
    assert (found["odd"].tolist(), found["column_1"].tolist()) == ([True], ["heat"])
    assert "odd         1 of 1 rows (100.00%)" in capsys.readouterr().out


def test_the_threshold_is_that_of_the_quantile_or_what_is_given(main, run, data, usual, tmp_path, capsys):
    for flags, threshold, said in (
        (("--quantile", "0.5"), usual.quantiles[0.5], "the 0.5 quantile of 199 held-out rows"),
        (("--threshold", "0.25"), 0.25, "--threshold"),
        (("--quantile", "0.999"), usual.quantiles[0.999], "the largest of 199 held-out rows"),
    ):
        main(run, "--data", data, "--out", tmp_path / "out.csv", "--overwrite", *flags)
        found, printed = table(tmp_path / "out.csv"), capsys.readouterr().out
        np.testing.assert_array_equal(found["odd"], found["error"] > threshold)
        assert f": error above {threshold:.4g}, {said}\n" in printed
    few = "199 held-out rows are too few for the 0.999 quantile of their errors, which needs 999: the largest error is "
    assert f"note        {few}taken\n" in printed


def test_a_run_that_recorded_no_usual_errors_is_measured_on_the_rows_it_kept(main, run, stack, data, tmp_path, capsys):
    older = shutil.copytree(run, tmp_path / "older")
    record = json.loads((older / "run.json").read_text())
    del record["usual_errors"]
    (older / "run.json").write_text(json.dumps(record))
    main(older, "--data", data, "--out", tmp_path / "out.csv")
    printed = capsys.readouterr().out
    said = f"note        {older} does not say which errors are usual: measured on the 50 held-out rows it kept\n"
    assert said in printed
    assert "note        50 held-out rows support no higher quantile than 0.95\n" in printed
    errors = np.sort(stack.reconstruction_error(rows(50, 3)))
    assert f": error above {errors[48]:.4g}, the 0.95 quantile of 50 held-out rows\n" in printed  # the 49th of 50


def images_run(folder):
    """A run of an autoencoder of grey pictures of 3 x 2 pixels, on bytes."""
    ae = keras_sae.SparseAutoencoder(4)
    ae.build((None, 6))
    pixels = np.random.default_rng(0).uniform(size=(40, 6)).astype("float32")
    keras_sae.save(ae, folder, {"image_shape": [3, 2], "pixel_range": 1.0})
    runs.save_examples(folder / "examples.npz", pixels)
    return ae


def test_pixels_are_named_by_their_places_and_have_no_errors_of_their_own(main, tmp_path, capsys):
    """Bytes are taken to the range of the run."""
    ae = images_run(tmp_path / "run")
    picture = np.array([[0, 128], [255, 3], [200, 90]], "uint8")
    Image.fromarray(picture).save(tmp_path / "one.png")
    command = (tmp_path / "run", "--data", tmp_path / "one.png", "--out", tmp_path / "out.csv", "--overwrite")
    main(*command)
    found = table(tmp_path / "out.csv")
    shown = [f"{kind}_{place}" for place in (1, 2, 3) for kind in ("column", "share")]
    assert list(found) == ["error", "odd", *shown]
    xhat, scaled = np.asarray(ae(picture.reshape(1, 6) / 255.0))[0], picture.ravel() / 255
    assert found["error"][0] == pytest.approx(((xhat - scaled) ** 2).sum() / 2, rel=1e-5)
    first = found["column_1"][0]
    place = [f"pixel {i},{j}" for i in range(3) for j in range(2)].index(first)
    assert f"; {first} {found['share_1'][0]:.0%}, {scaled[place]:.4g} ({xhat[place]:.4g})" in capsys.readouterr().out
    main(*command, "--column-errors")
    assert list(table(tmp_path / "out.csv"))[8:] == [f"error_pixel {i},{j}" for i in range(3) for j in range(2)]


def test_rows_in_other_units_are_asked_about(main, run, x, tmp_path, capsys):
    np.save(tmp_path / "x.npy", 1000 * x)
    main(run, "--data", tmp_path / "x.npy", "--out", tmp_path / "out.csv")
    asked = "note        more rows are odd than not: are they in the units of those that the run was trained on?\n"
    assert asked in capsys.readouterr().out


def test_a_csv_output_is_read_whatever_its_header_and_its_first_rows_are(tmp_path):
    """A header longer than a block, labels of several lines, and errors that are whole numbers at first."""
    output, names = outputs.output_at(tmp_path / "x.csv", "label"), [f"column {i}" for i in range(40)]
    output.csv, lines = pyarrow.csv, [",".join(["error", "odd", "label", *names])]
    lines += [f'{error},{odd},"a\nb",' + ",".join("1" * 40) for error, odd in [("1", "false")] * 90 + [("0.5", "true")]]
    (tmp_path / "x.csv").write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(outputs, "CSV_BLOCK_BYTES", 200)
        parts = list(output.columns(error="double", odd="bool"))
    assert len(parts) > 1
    errors, odd = map(np.concatenate, zip(*parts, strict=True))
    assert errors.tolist() == [1] * 90 + [0.5]
    assert odd.tolist() == [False] * 90 + [True]
