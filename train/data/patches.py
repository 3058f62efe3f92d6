"""Natural image patches: photographs, in grey whitened as the notes' images are, and random windows of images."""

import pathlib

import numpy as np

from keras_sae.errors import InputError
from keras_sae.extras import imported

PHOTOGRAPHS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
WHITE_VARIANCE = 0.1  # of a whitened image; Olshausen's are scaled so


def load_whitened(path=None):
    """(list of whitened grey images, one line on where they came from).

    path: IMAGES.mat (its variable IMAGES, (height, width, number), is already whitened), or as of `load_photographs`.

    Raises:
        InputError: no such file, no photographs, or another variable in the file.
    """
    path = None if path is None else pathlib.Path(path)
    if path and path.suffix == ".mat":
        return _from_mat(path), f"{path.name}, whitened by its makers"
    photographs, source = load_photographs(path, "IMAGES.mat or ")
    return [whiten(photograph) for photograph in photographs], f"{source}, whitened"


def load_photographs(path=None, others=""):
    """(list of photographs in colour, (height, width, 3) uint8, one line on where they came from).

    path: a directory of photographs; by default scikit-learn's two.  others: what else it could have been, in words.

    Raises:
        InputError: no such directory, no photographs in it, or one that cannot be read.
    """
    if path is None:
        photographs = imported("sklearn.datasets", "bring two photographs").load_sample_images().images
        return photographs, f"scikit-learn's {len(photographs)} photographs"
    path = pathlib.Path(path)
    if not path.is_dir():
        kind = "neither" if others else "no directory"
        raise InputError(f"Expected {others}a directory of photographs. Received: {path}, which is {kind}.")
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in PHOTOGRAPHS)
    if not files:
        raise InputError(f"Expected photographs ({', '.join(PHOTOGRAPHS)}). Received: {path}, a directory with none.")
    return [_read(p) for p in files], f"{len(files)} photographs in {path.name}"


def _from_mat(path):
    import scipy.io

    try:
        content = scipy.io.loadmat(path)
    except (OSError, ValueError, NotImplementedError, scipy.io.matlab.MatReadError) as error:
        raise InputError(f"Expected a MATLAB file of version 7 or earlier. Received: {path}: {error}") from error
    images = content.get("IMAGES")
    if images is None or images.ndim != 3:
        names = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
        raise InputError(f"Expected the variable IMAGES (height, width, number). Received: {path} with {names}.")
    return list(np.moveaxis(images.astype("float64"), -1, 0))


def _read(path):
    pillow = imported("PIL.Image", "read photographs with")
    try:
        with pillow.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:  # of which Pillow's own errors are kinds
        raise InputError(f"Expected a photograph. Received: {path}, which cannot be read: {error}") from error


def whiten(photograph, cutoff=0.4):
    """A photograph, grey or colour, as whitened grey image: a zero-phase filter that flattens the 1/f spectrum.

        filter(f) = f exp(-(f / f0)^4),   f0 = cutoff cycles per pixel (0.4: 0.8 of the highest, which is 0.5)

    Natural images have amplitude 1/f, so |f| whitens them; the exponential takes away the noisy corners of the
    spectrum. The result has mean 0 and variance 0.1.

    Shapes: (height, width) or (height, width, 3) -> (height, width) float64.
    Reference: Olshausen & Field 1997, "Sparse coding with an overcomplete basis set", section 3.
    """
    grey = np.asarray(photograph, dtype="float64")
    if grey.ndim == 3:
        grey = grey @ (0.299, 0.587, 0.114)  # luminance of red, green and blue
    grey = grey - grey.mean()
    vertical, horizontal = np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1])[None, :]
    frequency = np.hypot(vertical, horizontal)
    white = np.fft.ifft2(np.fft.fft2(grey) * frequency * np.exp(-((frequency / cutoff) ** 4))).real
    if white.std() == 0:
        raise InputError("Expected photographs with something on them. Received: one of a single colour.")
    return white * np.sqrt(WHITE_VARIANCE) / white.std()


def sample_patches(images, number, size, seed=0):
    """Random square patches as rows, normalised for sigmoid outputs: (number, size * size) float32 in [0.1, 0.9].

    As UFLDL's sampleIMAGES and normalizeData: take away each patch's mean, clip at 3 standard deviations of all
    pixels, and map [-1, 1] to [0.1, 0.9].
    """
    patches = cut_patches(images, number, size, seed)
    patches -= patches.mean(axis=1, keepdims=True)
    limit = 3 * patches.std()
    return ((np.clip(patches, -limit, limit) / limit + 1) * 0.4 + 0.1).astype("float32")


def cut_patches(images, number, size, seed=0):
    """Random square windows of images as rows of their pixels: (number, size * size * channels) float64.

    images: a list or an array of images, (height, width) or (height, width, channels).
    """
    small = next((image.shape for image in images if min(image.shape[:2]) < size), None)
    if small:
        raise InputError(
            f"Expected images of at least {size} x {size} pixels. Received: one of {small[0]} x {small[1]}."
        )
    generator = np.random.default_rng(seed)
    patches = np.empty((number, size, size, *images[0].shape[2:]))
    for row, chosen in enumerate(generator.integers(len(images), size=number)):
        image = images[chosen]
        top, left = generator.integers(image.shape[0] - size + 1), generator.integers(image.shape[1] - size + 1)
        patches[row] = image[top : top + size, left : left + size]
    return patches.reshape(number, -1)
