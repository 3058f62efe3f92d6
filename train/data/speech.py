"""Spoken digits: recordings from wav files, their log-mel spectrograms, patches of these, pooling over parts."""

import dataclasses
import io
import os
import pathlib
import re
import struct
import warnings
import zipfile
import zlib

import numpy as np
import scipy.fft
import scipy.io.wavfile

from keras_sae.data import datasets
from keras_sae.errors import InputError, MissingPackageError

RATE = 8000  # samples a second, of telephone speech and of the Free Spoken Digit Dataset
WINDOW, HOP = 200, 80  # samples: 25 ms and 10 ms, the usual ones in speech recognition
FFT_LENGTH = 512  # zero-padded, so that the narrowest mel band holds three frequencies and none is empty
BANDS = 40
LOWEST, HIGHEST = 60.0, 4000.0  # Hz: from below a deep voice to half the rate
DYNAMIC_RANGE = 40.0  # dB below the loudest point, where the spectrogram ends; what is fainter is mostly room noise
SPEECH_RANGE = 30.0  # dB below the loudest point, where the word begins and ends

ARCHIVE = "recordings.zip"
CURE = "Name a directory or a zip with the files of the Free Spoken Digit Dataset: --data PATH."
_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>.+)_\d+\.wav", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Spoken digits, in the order of their names.

    waves: list of float32 arrays (samples,) in [-1, 1], 8,000 samples a second.  digits: (recordings,) int64, 0 to 9.
    speakers: (recordings,) names, str.  source: one line for people on where they came from.
    """

    waves: list
    digits: np.ndarray
    speakers: np.ndarray
    source: str


def load_recordings(data=None):
    """Spoken digits from the first place that has them, as `Recordings`.

    In this order: `data`, a directory or a zip of wav files DIGIT_SPEAKER_NUMBER.wav (8 kHz, 16 bit, mono);
    `$KERAS_SAE_DATA/spoken_digits`; tensorflow-datasets' spoken_digit, if it is prepared; "tfds" downloads it.

    Raises:
        InputError: what was asked for is missing, damaged or something else; no place has the recordings.

    Reference: Jackson et al., "Free Spoken Digit Dataset", https://github.com/Jakobovski/free-spoken-digit-dataset
    """
    shared = os.environ.get("KERAS_SAE_DATA")
    if data is None and shared:
        data = pathlib.Path(shared) / "spoken_digits"
    if data not in (None, "tfds"):
        return read_recordings(data)
    try:
        builder = datasets.tensorflow_datasets_builder("spoken_digit", download=data == "tfds")
    except MissingPackageError:
        raise
    except ImportError as error:
        raise InputError(
            f"tensorflow-datasets prepares spoken_digit with pydub, which is not there: pip install pydub. Or: {CURE}"
        ) from error
    if builder is None:
        raise InputError(
            "Expected recordings of spoken digits. Received no --data, no KERAS_SAE_DATA, and tensorflow-datasets has "
            f"no prepared copy, which --data tfds makes. {CURE}"
        )
    import tensorflow_datasets as tfds

    rows = tfds.as_numpy(builder.as_dataset(split="train"))
    waves = {row["audio/filename"].decode(): row["audio"].astype("int16") for row in rows}
    return _recordings(waves, f"tensorflow-datasets' spoken_digit in {builder.data_path}")


def read_recordings(path):
    """Return the wav files of a directory, of `recordings` or `recordings.zip` in it, or of a zip, as `Recordings`.

    Raises:
        InputError: no wav files there; a name that is not DIGIT_SPEAKER_NUMBER.wav; a file that is damaged, or is not
            8 kHz, 16 bit, mono.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(f"Expected a directory or a zip of wav files. Received: {path}, which does not exist. {CURE}")
    if path.is_file():
        return _recordings(_read_zip(path), f"recordings in {path}")
    for folder in (path, path / "recordings"):
        files = [p for p in folder.glob("*") if _is_wav(p)]
        if files:
            return _recordings({p.name: read_wav(p.read_bytes(), p) for p in files}, f"recordings in {folder}")
    if (path / ARCHIVE).is_file():
        return _recordings(_read_zip(path / ARCHIVE), f"recordings in {path / ARCHIVE}")
    found = ", ".join(sorted(p.name for p in path.iterdir())[:6]) or "nothing"
    raise InputError(f"Expected wav files or {ARCHIVE} in {path}. Received a directory with: {found}. {CURE}")


def _is_wav(path):
    return path.suffix.lower() == ".wav" and not path.name.startswith(".")


def _read_zip(path):
    """Return {file name: samples} of the wav files in a zip, in whatever directory of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if _is_wav(pathlib.PurePosixPath(name))]
            content = {name: archive.read(name) for name in names}
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"Expected a zip of wav files. Received: {path}, which is damaged or something else: {error}. Copy or "
            f"download the file again."
        ) from error
    if not names:
        raise InputError(f"Expected a zip of wav files. Received: {path}, which holds none. {CURE}")
    return {pathlib.PurePosixPath(name).name: read_wav(raw, f"{path}/{name}") for name, raw in content.items()}


def read_wav(content, where):
    """The samples of a wav file, int16 (samples,). content: bytes; where: its name, for messages.

    Raises:
        InputError: not a whole wav file, or not 8 kHz, 16 bit, mono.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", scipy.io.wavfile.WavFileWarning)  # chunks of notes beside the sound
            warnings.filterwarnings("error", "Reached EOF", scipy.io.wavfile.WavFileWarning)
            rate, samples = scipy.io.wavfile.read(io.BytesIO(content))
    except (ValueError, EOFError, struct.error, UnboundLocalError, scipy.io.wavfile.WavFileWarning) as error:
        raise InputError(
            f"Expected a wav file. Received: {where}, which is damaged or something else: {error}. Copy or download "
            "the file again."
        ) from error
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    if (rate, samples.dtype, channels) != (RATE, np.dtype("int16"), 1):
        raise InputError(
            f"Expected sound of {RATE} samples a second, int16, 1 channel. Received: {where} with {rate} samples a "
            f"second, {samples.dtype}, {channels} channel{'s' * (channels > 1)}. Convert it: sox IN.wav -r 8000 -b 16 "
            "-c 1 OUT.wav."
        )
    if len(samples) == 0:
        raise InputError(f"Expected a wav file with sound. Received: {where}, which has none. Remove that file.")
    return samples


def _recordings(waves, source):
    """Recordings of samples by file name, in the order of the names."""
    names = sorted(waves)
    parsed = [_NAME.fullmatch(name) for name in names]
    if not all(parsed):
        wrong = [name for name, match in zip(names, parsed, strict=True) if not match]
        raise InputError(
            f"Expected names such as 7_george_12.wav: DIGIT_SPEAKER_NUMBER.wav. Received: {', '.join(wrong[:3])} among "
            f"{source}. Rename or remove {'it' if len(wrong) == 1 else f'these {len(wrong):,} files'}."
        )
    return Recordings(
        [waves[name].astype("float32") / np.float32(32768) for name in names],
        np.array([int(match["digit"]) for match in parsed], "int64"),
        np.array([match["speaker"].lower() for match in parsed]),
        source,
    )


def mel_filterbank(bands=BANDS, lowest=LOWEST, highest=HIGHEST):
    """Triangular filters that are evenly spaced on the mel scale: (FFT_LENGTH // 2 + 1, bands), values 0 to 1.

        mel(f) = 2595 log10(1 + f / 700),   f in Hz
        filter j rises from 0 at f_(j-1) to 1 at its centre f_j and falls to 0 at f_(j+1), linearly in f

    f_0 = lowest and f_(bands+1) = highest, in Hz. Row k is the frequency k RATE / FFT_LENGTH.

    Reference: Davis & Mermelstein 1980; the formula of the scale, O'Shaughnessy 1987.
    """
    mels = np.linspace(*(2595 * np.log10(1 + np.array([lowest, highest]) / 700)), bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    frequencies = np.arange(FFT_LENGTH // 2 + 1)[:, None] * RATE / FFT_LENGTH
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)


def log_mel(wave):
    """The log-mel spectrogram of a recording on a scale from 0 to 1: (samples,) -> (frames, BANDS) float32.

        P    = |FFT(Hann window of 25 ms)|^2 filters, every 10 ms; band 0 is the lowest
        x    = max(0, 1 + 10 log10(P / max P) / 40)

    1 is the loudest point of the recording and 0 is 40 dB below it or less, so how loud it was recorded makes no
    difference. A recording shorter than one window is continued with zeros; silence is 0 throughout.
    """
    wave = np.pad(np.asarray(wave, "float64"), (0, max(0, WINDOW - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    spectrum = scipy.fft.rfft(frames * np.hanning(WINDOW + 1)[:-1], FFT_LENGTH)
    power = (spectrum.real**2 + spectrum.imag**2) @ mel_filterbank()
    loudest = power.max()
    if loudest == 0:
        return np.zeros(power.shape, "float32")
    smallest = 10 ** (-DYNAMIC_RANGE / 10)
    return (1 + 10 * np.log10(np.maximum(power / loudest, smallest)) / DYNAMIC_RANGE).astype("float32")


def trim(spectrogram):
    """A spectrogram of `log_mel` without the quiet frames before and after the word: (frames, bands), fewer frames.

    A frame is quiet where no band comes within 30 dB of the loudest point. Pauses inside stay, and so does silence.
    """
    spoken = np.flatnonzero(spectrogram.max(axis=1) > 1 - SPEECH_RANGE / DYNAMIC_RANGE)
    return spectrogram[spoken[0] : spoken[-1] + 1] if len(spoken) else spectrogram


def patches(spectrogram, bands, frames, step=1):
    """All patches of `bands` x `frames` of a spectrogram, as rows to be drawn with the highest band at the top.

    (time, all bands) -> (time, positions, bands * frames), with a patch around every frame and, at each, positions
    that begin at bands 0, step, 2 step, ... Before the beginning and after the end the outermost frames go on.
    """
    before = (frames - 1) // 2
    padded = np.pad(spectrogram, ((before, frames - 1 - before), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (frames, bands))[:, ::step]
    pictures = windows.swapaxes(2, 3)[:, :, ::-1]  # (time, positions, bands from high to low, frames)
    return pictures.reshape(*windows.shape[:2], bands * frames)


def pool(values, segments, zones, reduce=np.mean):
    """Values averaged (or reduced otherwise) over equal parts of time and of frequency, as one row of features.

    (time, positions, units) -> (segments * zones * units,). Parts share a frame or position where the number of these
    is not a multiple of them; where there are fewer than parts, some are repeated.
    """
    return np.concatenate(
        [
            reduce(values[early:late, low:high], axis=(0, 1))
            for early, late in _parts(values.shape[0], segments)
            for low, high in _parts(values.shape[1], zones)
        ]
    )


def _parts(length, number):
    """(start, end) of each of `number` equal parts of a length, none of them empty."""
    return [(i * length // number, -(-(i + 1) * length // number)) for i in range(number)]
