import numpy as np
import pytest
import scipy.io
from PIL import Image

from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises
from train.data import patches


def grating(frequency, size=64):
    """A picture of one spatial frequency, in cycles per pixel along x."""
    return np.tile(np.cos(2 * np.pi * frequency * np.arange(size)), (size, 1))


def pink(size=64, seed=0):
    """A picture whose amplitude falls as 1/f, as that of natural images does."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None, :])
    white = np.fft.fft2(np.random.default_rng(seed).normal(size=(size, size)))
    return np.fft.ifft2(white / np.where(frequency > 0, frequency, np.inf)).real


def test_the_filter_is_f_times_a_low_pass():
    # Two gratings, amplitudes 1 and 1, at f = 1/8 and 1/4: after the filter their ratio is
    # (1/8 e^-(0.125/0.4)^4) / (1/4 e^-(0.25/0.4)^4) = 0.125 * 0.99051 / (0.25 * 0.85851) = 0.57687
    spectrum = np.abs(np.fft.rfft(patches.whiten(grating(1 / 8) + grating(1 / 4))[0]))
    assert spectrum[8] / spectrum[16] == pytest.approx(0.57687, abs=1e-4)


def test_whitening_moves_nothing_and_leaves_mean_0_and_variance_a_tenth():
    white = patches.whiten(grating(1 / 8))
    assert white.mean() == pytest.approx(0, abs=1e-12)
    assert white.var() == pytest.approx(0.1)
    assert np.corrcoef(white[0], grating(1 / 8)[0])[0, 1] == pytest.approx(1)  # zero phase


def test_whitening_flattens_the_spectrum_of_a_natural_image():
    def slope(image):
        frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None, :])
        band = (frequency > 0.03) & (frequency < 0.25)
        return np.polyfit(np.log(frequency[band]), np.log(np.abs(np.fft.fft2(image))[band]), 1)[0]

    assert slope(pink()) == pytest.approx(-1, abs=0.1)
    assert slope(patches.whiten(pink())) == pytest.approx(0, abs=0.2)  # the low-pass begins to show at 0.25


def test_colour_counts_by_luminance():
    grey = np.random.default_rng(0).uniform(size=(16, 16))
    colour = np.stack([grey / 0.299, np.zeros_like(grey), np.zeros_like(grey)], axis=-1)  # red alone
    np.testing.assert_allclose(patches.whiten(colour), patches.whiten(grey), atol=1e-12)


def test_patches_are_normalised_as_the_notes_do():
    x = patches.sample_patches([pink(seed=s) for s in range(2)], 500, 8)
    assert x.shape == (500, 64)
    assert x.dtype == np.float32
    assert x.min() == pytest.approx(0.1)  # some pixel is beyond 3 standard deviations on either side
    assert x.max() == pytest.approx(0.9)
    np.testing.assert_allclose(x.mean(axis=1), 0.5, atol=0.02)  # each patch's mean was taken away before clipping
    assert x.std() == pytest.approx(0.4 / 3, rel=0.05)


def test_a_patch_is_a_window_of_an_image():
    ramp = np.add.outer(10.0 * np.arange(12), np.arange(12))
    x = patches.sample_patches([ramp], 5, 3)
    for patch in x:
        assert np.diff(patch.reshape(3, 3), axis=1) == pytest.approx(patch[1] - patch[0], abs=1e-6)
        assert np.diff(patch.reshape(3, 3), axis=0) == pytest.approx(10 * (patch[1] - patch[0]), abs=1e-6)


def test_the_seed_decides():
    first, same, other = (patches.sample_patches([pink()], 20, 4, seed) for seed in (3, 3, 4))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_the_default_is_two_photographs():
    images, source = patches.load_whitened()
    assert [image.shape for image in images] == [(427, 640)] * 2
    assert source == "scikit-learn's 2 photographs, whitened"


def test_a_folder_of_photographs(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype="uint8")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("not a photograph")
    images, source = patches.load_whitened(tmp_path)
    np.testing.assert_allclose(images[0], patches.whiten(pixels))
    assert (len(images), source) == (1, f"1 photographs in {tmp_path.name}, whitened")


def test_images_mat_is_taken_as_it_is(tmp_path):
    white = np.random.default_rng(0).normal(size=(16, 12, 3))
    scipy.io.savemat(tmp_path / "IMAGES.mat", {"IMAGES": white})
    images, source = patches.load_whitened(tmp_path / "IMAGES.mat")
    assert len(images) == 3
    np.testing.assert_array_equal(images[1], white[:, :, 1])
    assert source == "IMAGES.mat, whitened by its makers"


def test_what_is_no_source_of_images(tmp_path):
    with raises(InputError, "Expected IMAGES.mat or a directory of photographs", "nowhere, which is neither"):
        patches.load_whitened(tmp_path / "nowhere")
    with raises(InputError, "Expected photographs (.png", "a directory with none"):
        patches.load_whitened(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with raises(InputError, "Expected a photograph. Received:", "broken.png, which cannot be read"):
        patches.load_whitened(tmp_path)
    (tmp_path / "broken.mat").write_bytes(b"not a MATLAB file")
    with raises(InputError, "Expected a MATLAB file of version 7 or earlier. Received:", "broken.mat"):
        patches.load_whitened(tmp_path / "broken.mat")
    scipy.io.savemat(tmp_path / "other.mat", {"pictures": np.ones((2, 2))})
    with raises(InputError, "Expected the variable IMAGES (height, width, number)", "other.mat with pictures"):
        patches.load_whitened(tmp_path / "other.mat")


def test_what_cannot_be_whitened_or_cut():
    with raises(InputError, "something on them", "a single colour"):
        patches.whiten(np.full((8, 8), 7.0))
    with raises(InputError, "at least 9 x 9 pixels", "one of 8 x 20"):
        patches.sample_patches([np.ones((8, 20))], 5, 9)
