import io
import sys

import keras
import pytest

import keras_sae
from keras_sae.monitoring import progress
from keras_sae.monitoring.progress import progress_bar
from tests.keras_sae.conftest import autoencoder


class Terminal(io.StringIO):
    """A stderr that can redraw a line."""

    def isatty(self):
        return True


def test_a_terminal_has_one_line_that_is_drawn_again(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = progress_bar("layer 1", 2)
    bar.update(2)
    bar.close()
    shown = sys.stderr.getvalue()
    assert shown.count("\n") == 1
    drawn = shown.strip().split("\r")
    assert drawn[0].startswith("layer 1:   0%|")
    assert drawn[-1].startswith("layer 1: 100%|")
    assert "| 2/2 [00:00" in drawn[-1]


@pytest.mark.parametrize("seconds", [0, 1000])
def test_a_log_file_has_lines(seconds, monkeypatch, capsys):
    """One at the start, one at the end, and between them one every so many seconds; none comes twice."""
    monkeypatch.setattr(progress, "LINE_SECONDS", seconds)
    bar = progress_bar("layer 1", 3)
    for number in range(3):
        bar.set_postfix_str(f"objective={number}", refresh=False)
        bar.update()
    assert bar.miniters == 1  # above it, tqdm's own thread writes lines between these
    bar.close()
    shown = capsys.readouterr().err
    assert "\r" not in shown
    lines = shown.splitlines()
    assert lines[0] == "layer 1:   0% 0/3 [00:00, ? left]"
    assert lines[-1] == "layer 1: 100% 3/3 [00:00, 00:00 left, objective=2]"
    assert len(lines) == (4 if seconds == 0 else 2)
    assert shown.endswith("\n")


@pytest.mark.parametrize("seconds", [0.0, 1000.0])
def test_a_log_file_has_no_line_of_what_was_done_before_the_first(seconds, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    with progress_bar("rows", 2, first_line=seconds) as bar:
        bar.update(2)
    lines = ["rows:   0% 0/2 [00:00, ? left]", "rows: 100% 2/2 [00:00, 00:00 left]"]
    assert capsys.readouterr().err.splitlines() == ([] if seconds else lines)


def test_a_disabled_bar_says_nothing(capsys):
    bar = progress_bar("layer 1", 3, disable=True)
    bar.update()
    bar.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_training_that_resumes_goes_on_where_the_bar_was(optimizer, x, tmp_path, capsys):
    """What was done before does not count in the time left."""
    options = {"optimizer": optimizer, "checkpoint": tmp_path / "checkpoint.npz"}

    def interrupt(epoch, logs):
        if epoch == 3:
            raise KeyboardInterrupt

    stop = keras.callbacks.LambdaCallback(on_epoch_begin=interrupt)
    if optimizer == "lbfgs":
        with pytest.raises(KeyboardInterrupt):
            keras_sae.fit(autoencoder(dtype="float32"), x, iterations=5, callbacks=[stop], **options)
        assert "3/5" in capsys.readouterr().err.splitlines()[-1]
    else:  # is written at the end of a training
        keras_sae.fit(autoencoder(dtype="float32"), x, iterations=3, verbose=0, **options)
    keras_sae.fit(autoencoder(dtype="float32"), x, iterations=5, **options)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert " 60% 3/5 [00:00, ? left]" in first
    assert "100% 5/5" in last
    keras_sae.fit(autoencoder(dtype="float32"), x, iterations=5, **options)  # nothing is left to do
    assert "100% 5/5" in capsys.readouterr().err
