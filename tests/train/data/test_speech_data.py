import io
import sys
import types
import warnings
import zipfile

import numpy as np
import pytest
import scipy.io.wavfile

from keras_sae.data import datasets
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises
from train.data import speech

RATE = 8000


@pytest.fixture(autouse=True)
def _no_shared_data(monkeypatch):
    monkeypatch.delenv("KERAS_SAE_DATA", raising=False)


def tone(frequency, seconds=0.5, amplitude=0.5):
    """A pure tone, int16."""
    time = np.arange(int(RATE * seconds)) / RATE
    return np.round(32767 * amplitude * np.sin(2 * np.pi * frequency * time)).astype("int16")


def wav(samples=None, rate=RATE):
    """The bytes of a wav file."""
    file = io.BytesIO()
    scipy.io.wavfile.write(file, rate, tone(440) if samples is None else samples)
    return file.getvalue()


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def written(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


# --- reading ---

FILES = {"7_Ann_0.wav": wav(tone(300)), "0_bob_12.wav": wav(tone(900)), "3_de_la_cruz_1.wav": wav(tone(1500))}


def places(tmp_path):
    """The same files in every place where they may be."""
    (tmp_path / "in").mkdir()
    zipped(tmp_path / "in" / "recordings.zip", {f"recordings/{name}": content for name, content in FILES.items()})
    return [
        written(tmp_path / "folder", FILES),
        written(tmp_path / "clone" / "recordings", FILES).parent,
        tmp_path / "in",
        tmp_path / "in" / "recordings.zip",
        str(zipped(tmp_path / "flat.zip", FILES)),
    ]


def test_the_same_recordings_come_from_every_place(tmp_path):
    for place in places(tmp_path):
        found = speech.load_recordings(place)
        np.testing.assert_array_equal(found.digits, [0, 3, 7])  # in the order of their names
        assert found.speakers.tolist() == ["bob", "de_la_cruz", "ann"]
        assert str(place) in found.source
        for wave, frequency in zip(found.waves, (900, 1500, 300), strict=True):
            assert wave.dtype == "float32"
            np.testing.assert_allclose(wave, tone(frequency) / 32768)


def test_other_files_beside_the_recordings_are_left_alone(tmp_path):
    rest = {"README.md": b"about", "._7_ann_0.wav": b"of a Mac", ".DS_Store": b"", "notes.txt": b""}
    assert len(speech.read_recordings(written(tmp_path / "folder", {**FILES, **rest})).waves) == 3
    inside = {**FILES, "__MACOSX/._7_ann_0.wav": b"of a Mac", "README.md": b"about"}
    assert len(speech.read_recordings(zipped(tmp_path / "some.zip", inside)).waves) == 3


def test_samples_are_between_minus_one_and_one(tmp_path):
    extremes = np.array([-32768, 0, 16384, 32767], "int16")
    wave = speech.read_recordings(written(tmp_path, {"1_a_1.wav": wav(extremes)})).waves[0]
    np.testing.assert_array_equal(wave, np.array([-1, 0, 0.5, 32767 / 32768], "float32"))


def test_chunks_of_notes_in_a_wav_file_are_skipped():
    content = wav()
    note = b"note" + (6).to_bytes(4, "little") + b"hello\0"
    content = content[:4] + (len(content) + len(note) - 8).to_bytes(4, "little") + content[8:] + note
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(speech.read_wav(content, "a.wav"), tone(440))


AGAIN = "Copy or download the file again."
# Wav files that cannot be used: (content, what the message says after the name).
WRONG = {
    "something else": (b"<html><body></body></html>", ["which is damaged or something else", "<htm", AGAIN]),
    "empty": (b"", ["which is damaged or something else", AGAIN]),
    "cut off in the sound": (wav()[:3000], ["which is damaged or something else", "Reached EOF", AGAIN]),
    "cut off in a sample": (wav()[:3001], ["which is damaged or something else", AGAIN]),
    "cut off in the header": (wav()[:30], ["which is damaged or something else", AGAIN]),
    "cut off before the sound": (wav()[:36], ["which is damaged or something else", AGAIN]),
    "no chunks": (
        wav()[:4] + (4).to_bytes(4, "little") + wav()[8:12],
        ["which is damaged or something else", AGAIN],
    ),
    "another rate": (
        wav(rate=44_100),
        ["44100 samples a second, int16, 1 channel. Convert it: sox IN.wav -r 8000 -b 16 -c 1 OUT.wav."],
    ),
    "stereo": (wav(np.zeros((100, 2), "int16")), ["8000 samples a second, int16, 2 channels. Convert it"]),
    "8 bit": (wav(np.zeros(100, "uint8")), ["8000 samples a second, uint8, 1 channel. Convert it"]),
    "float": (wav(np.zeros(100, "float32")), ["8000 samples a second, float32, 1 channel. Convert it"]),
    "no sound": (wav(np.zeros(0, "int16")), ["which has none. Remove that file."]),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wav_file_that_cannot_be_used(fault, tmp_path):
    content, parts = WRONG[fault]
    path = written(tmp_path / "folder", {**FILES, "5_eve_0.wav": content}) / "5_eve_0.wav"
    with raises(InputError, "Expected", f"Received: {path}", *parts):
        speech.read_recordings(path.parent)
    archive = zipped(tmp_path / "some.zip", {**FILES, "in/5_eve_0.wav": content})
    with raises(InputError, "Expected", f"Received: {archive}/in/5_eve_0.wav", *parts):
        speech.read_recordings(archive)


NAME = "Expected names such as 7_george_12.wav: DIGIT_SPEAKER_NUMBER.wav."


@pytest.mark.parametrize("name", ["seven_ann_0.wav", "77_ann_0.wav", "7_ann.wav", "7__0.wav", "7_ann_x.wav"])
def test_name_that_says_no_digit_and_speaker(name, tmp_path):
    folder = written(tmp_path, {**FILES, name: wav()})
    with raises(InputError, NAME, f"Received: {name} among recordings in {tmp_path}. Rename or remove it."):
        speech.read_recordings(folder)


def test_many_wrong_names_are_counted(tmp_path):
    folder = written(tmp_path, {f"take{i}.wav": wav() for i in range(5)})
    parts = ["Received: take0.wav, take1.wav, take2.wav among", "Rename or remove these 5 files."]
    with raises(InputError, NAME, *parts):
        speech.read_recordings(folder)


CURE = "Name a directory or a zip with the files of the Free Spoken Digit Dataset: --data PATH."


def test_folder_without_recordings(tmp_path):
    expected = f"Expected wav files or recordings.zip in {tmp_path}."
    with raises(InputError, expected, "Received a directory with: nothing.", CURE):
        speech.read_recordings(tmp_path)
    written(tmp_path, {"a.txt": b"", "b.mp3": b""})
    with raises(InputError, expected, "Received a directory with: a.txt, b.mp3.", CURE):
        speech.read_recordings(tmp_path)


def test_place_that_does_not_exist(tmp_path):
    path = tmp_path / "none"
    with raises(
        InputError, f"Expected a directory or a zip of wav files. Received: {path}, which does not exist.", CURE
    ):
        speech.load_recordings(path)


def test_damaged_zip(tmp_path):
    whole = zipped(tmp_path / "recordings.zip", FILES)
    content = whole.read_bytes()
    middle = content.index(b"data") + 100  # in the sound of the first file, where the checksum tells
    flipped = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    for damaged in (content[:-30], flipped, b"", b"<html>"):
        whole.write_bytes(damaged)
        for place in (whole, tmp_path):
            with raises(InputError, f"Expected a zip of wav files. Received: {whole}, which is damaged", AGAIN):
                speech.read_recordings(place)


def test_zip_without_recordings(tmp_path):
    path = zipped(tmp_path / "a.zip", {"README.md": b"about"})
    with raises(InputError, f"Expected a zip of wav files. Received: {path}, which holds none.", CURE):
        speech.read_recordings(path)


# --- where the recordings come from ---


def test_named_folder_comes_first_and_shared_folder_second(monkeypatch, tmp_path):
    written(tmp_path / "shared" / "spoken_digits", FILES)
    monkeypatch.setenv("KERAS_SAE_DATA", str(tmp_path / "shared"))
    assert len(speech.load_recordings().waves) == 3
    one = written(tmp_path / "own", {"1_a_1.wav": wav()})
    assert len(speech.load_recordings(one).waves) == 1


def test_shared_folder_without_recordings_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_SAE_DATA", str(tmp_path))
    with raises(InputError, f"Received: {tmp_path / 'spoken_digits'}, which does not exist.", CURE):
        speech.load_recordings()


def test_prepared_tensorflow_dataset_comes_third(monkeypatch, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    rows = [
        {"audio": tone(440).astype("int64"), "label": 7, "audio/filename": b"7_ann_0.wav"},
        {"audio": tone(880).astype("int64"), "label": 1, "audio/filename": b"1_bob_3.wav"},
    ]
    builder = types.SimpleNamespace(data_path=tmp_path, as_dataset=lambda split: {"train": rows}[split])
    monkeypatch.setattr(tfds, "builder", {"spoken_digit": builder}.get)
    monkeypatch.setattr(tfds, "as_numpy", iter)
    found = speech.load_recordings()
    assert found.speakers.tolist() == ["bob", "ann"]
    np.testing.assert_array_equal(found.digits, [1, 7])
    np.testing.assert_allclose(found.waves[1], tone(440) / 32768)
    assert found.source == f"tensorflow-datasets' spoken_digit in {tmp_path}"


NOWHERE = "Expected recordings of spoken digits. Received no --data, no KERAS_SAE_DATA, and tensorflow-datasets has"


def test_what_tensorflow_datasets_has_not_prepared_is_not_downloaded_unasked(monkeypatch, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    builder = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name: builder(name, data_dir=tmp_path))
    with raises(InputError, NOWHERE, "no prepared copy, which --data tfds makes.", CURE):
        speech.load_recordings()


def test_without_tensorflow_datasets_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with raises(InputError, NOWHERE, CURE):
        speech.load_recordings()


def test_without_pydub_the_cure_is_named(monkeypatch):
    def prepare(name, download):
        assert download
        raise ImportError("Failed importing pydub")

    monkeypatch.setattr(datasets, "tensorflow_datasets_builder", prepare)
    with raises(InputError, "with pydub, which is not there: pip install pydub. Or:", CURE):
        speech.load_recordings("tfds")


# --- spectrograms ---


def test_mel_filters_by_hand():
    """One band from 0 to 2,100 Hz: mel(2100) = 2595 log10(4) = 2 mel(700), so its centre is 700 Hz, not 1,050."""
    filters = speech.mel_filterbank(1, 0, 2100)
    assert filters.shape == (257, 1)
    frequencies = np.arange(257) * 15.625  # 8,000 Hz / 512
    expected = np.where(frequencies <= 700, frequencies / 700, (2100 - frequencies) / 1400).clip(0)
    np.testing.assert_allclose(filters[:, 0], expected, atol=1e-12)
    assert filters[44, 0] == pytest.approx(687.5 / 700)
    assert filters[45, 0] == pytest.approx((2100 - 703.125) / 1400)
    assert filters[:, 0].argmax() == 45
    assert not filters[135:].any()  # from 2,109 Hz on


def test_mel_filters_overlap_by_half_and_none_is_empty():
    filters = speech.mel_filterbank()
    assert filters.shape == (257, speech.BANDS)
    assert (filters > 0).sum(axis=0).min() >= 3
    assert (np.diff(filters.argmax(axis=0)) > 0).all()
    centres = filters.argmax(axis=0)
    np.testing.assert_allclose(filters[centres[0] + 1 : centres[-1]].sum(axis=1), 1)  # one falls as the next rises


@pytest.mark.parametrize("frequency", [150, 440, 1000, 2000, 3500])
def test_energy_of_a_tone_lies_in_its_band(frequency):
    spectrogram = speech.log_mel(tone(frequency) / 32768)
    # By hand: 42 points from mel(60) to mel(4000); band j is centred at point j + 1.
    points = np.linspace(2595 * np.log10(1 + 60 / 700), 2595 * np.log10(1 + 4000 / 700), 42)
    band = np.abs(points[1:-1] - 2595 * np.log10(1 + frequency / 700)).argmin()
    assert set(spectrogram.argmax(axis=1)) <= {band - 1, band, band + 1}
    assert np.median(spectrogram.argmax(axis=1)) == band


def test_frames_are_10_ms_apart():
    silent_then_loud = np.concatenate([np.zeros(RATE // 2), tone(440) / 32768])  # the tone begins at 0.5 s
    spectrogram = speech.log_mel(silent_then_loud)
    assert spectrogram.shape == (1 + (RATE - 200) // 80, 40)
    energy = spectrogram.max(axis=1)
    # Frame t sees the samples from 80 t to 80 t + 199: the first that reaches past sample 4,000 is number 48.
    assert not energy[:48].any()
    assert energy[48] > 0.2
    assert energy[50] == pytest.approx(1, abs=0.02)


def test_loudness_makes_no_difference():
    wave = np.random.default_rng(0).normal(size=RATE) * np.linspace(1e-5, 1e-2, RATE)
    spectrogram = speech.log_mel(wave)
    np.testing.assert_allclose(speech.log_mel(10 * wave), spectrogram, atol=1e-6)
    assert spectrogram.max() == 1
    assert spectrogram.min() == 0  # the beginning, 60 dB below the end


def test_scale_is_40_decibels():
    """A tone, then the same at a tenth of the amplitude: 20 dB less, half of the 40 dB from 0 to 1."""
    loud = tone(1000, 0.3) / 32768
    peaks = speech.log_mel(np.concatenate([loud, loud / 10, loud / 1000])).max(axis=1)
    assert peaks[10] == pytest.approx(1, abs=0.02)
    assert peaks[42] == pytest.approx(0.5, abs=0.02)
    assert peaks[70] == 0  # 60 dB less


@pytest.mark.parametrize("samples", [2, 199, 200, 279, 280])
def test_short_recordings(samples):
    spectrogram = speech.log_mel(np.ones(samples))
    assert spectrogram.shape == (2 if samples == 280 else 1, 40)
    assert spectrogram.max() == 1
    assert speech.trim(spectrogram).shape == spectrogram.shape


def test_silence_is_zero_and_not_trimmed():
    spectrogram = speech.log_mel(np.zeros(1000))
    np.testing.assert_array_equal(spectrogram, np.zeros((11, 40)))
    assert speech.trim(spectrogram).shape == (11, 40)


def test_trim_takes_quiet_ends_and_leaves_pauses():
    """0.25 is 30 dB below the loudest: 0.2 is quiet, 0.3 is not."""
    loudest = [0.0, 0.2, 0.3, 1.0, 0.0, 0.5, 0.25, 0.1]
    spectrogram = np.outer(loudest, [0.5, 1.0])
    np.testing.assert_array_equal(speech.trim(spectrogram), spectrogram[2:6])


def test_trimmed_word_has_the_length_of_the_tone():
    sound = np.concatenate([np.zeros(4000), tone(440, 0.5) / 32768, np.zeros(8000)])
    assert 50 <= len(speech.trim(speech.log_mel(sound))) <= 52  # 0.5 s, and windows that reach into it


# --- patches and pooling ---


def test_patches_by_hand():
    """Three bands, two frames; patches of 2 bands x 2 frames begin at bands 0 and 1, the high band drawn on top."""
    spectrogram = np.array([[1, 2, 3], [4, 5, 6]])  # (time, bands)
    found = speech.patches(spectrogram, 2, 2)
    assert found.shape == (2, 2, 4)
    np.testing.assert_array_equal(found[0], [[2, 5, 1, 4], [3, 6, 2, 5]])
    np.testing.assert_array_equal(found[1], [[5, 5, 4, 4], [6, 6, 5, 5]])  # the last frame goes on


def test_patches_are_centred_on_their_frames():
    found = speech.patches(np.array([[1], [2], [3]]), 1, 3)
    np.testing.assert_array_equal(found[:, 0], [[1, 1, 2], [1, 2, 3], [2, 3, 3]])


def test_step_leaves_out_positions():
    spectrogram = np.random.default_rng(0).uniform(size=(5, 40))
    every = speech.patches(spectrogram, 16, 8)
    assert every.shape == (5, 25, 128)
    np.testing.assert_array_equal(speech.patches(spectrogram, 16, 8, step=2), every[:, ::2])


@pytest.mark.parametrize("frames", [1, 2, 15])
def test_every_frame_has_a_patch(frames):
    assert speech.patches(np.zeros((4, 40)), 40, frames).shape == (4, 1, 40 * frames)
    assert speech.patches(np.zeros((1, 40)), 40, frames).shape == (1, 1, 40 * frames)


def test_pooling_by_hand():
    """Three times, two positions, one unit, in two parts of time, which share the second, and one of frequency."""
    values = np.array([[[1.0], [2.0]], [[3.0], [4.0]], [[5.0], [9.0]]])
    np.testing.assert_allclose(speech.pool(values, 2, 1), [2.5, 5.25])  # (1 + 2 + 3 + 4) / 4, (3 + 4 + 5 + 9) / 4
    np.testing.assert_allclose(speech.pool(values, 1, 2), [3, 5])
    np.testing.assert_allclose(speech.pool(values, 2, 1, np.max), [4, 9])
    np.testing.assert_allclose(speech.pool(values, 3, 2), [1, 2, 3, 4, 5, 9])


def test_pooling_keeps_units_apart_and_repeats_what_is_short():
    values = np.array([[[1.0, 10.0]]])
    np.testing.assert_array_equal(speech.pool(values, 2, 2), [1, 10] * 4)
    assert speech.pool(np.zeros((7, 13, 5)), 3, 4).shape == (60,)
