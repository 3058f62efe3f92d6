"""Export a trained model for deployment, checked against Keras, on real held-out inputs if the run has them.

RUN is the --out of a training command, or a .keras file of such a model, or a sparse autoencoder of another library
(SAELens, Gemma Scope, sparsify, ...): its directory, its file, or hf://user/repository[@revision][/directory].
Writes, each only if it gives what Keras gives,
  DIR/saved_model/1/    for TensorFlow Serving, with signatures encode, top, decode, reconstruct, score, classify,
                        images as the model has them; a later export to the same DIR adds version 2, which a running
                        server takes up
  DIR/encoder.tflite    for LiteRT (TFLite); with --quantize also encoder_float16.tflite and so on
  DIR/encoder.onnx      for ONNX runtimes
  DIR/README.md         how to call them, with size, error, accuracy and time of each as measured

  python -m export runs/mnist --out exports/mnist
  python -m export runs/mnist --out exports/mnist --to saved_model litert onnx --quantize none float16 dynamic int8
  python -m export gpt2-small-resid-8 --out exports/gpt2
"""

import os
import pathlib
import warnings
from typing import TYPE_CHECKING

from keras_sae.cli import Parser, reported, stderr_suppressed
from keras_sae.errors import InputError
from keras_sae.runs.records import read_config

from . import sources
from .exporting import BOUNDS, PROGRAM, export_model
from .layout import FORMATS

if TYPE_CHECKING:
    import keras


def main() -> None:
    parser = Parser(PROGRAM, __doc__)
    add = parser.add_argument
    add("run", metavar="RUN", help="directory of a finished training run, or what else holds a model")
    add("--out", metavar="DIR", help="new or empty directory, or an earlier export (default: RUN/export)")
    formats, quantize = ["saved_model", "litert"], ["none"]
    add("--to", nargs="+", choices=FORMATS, default=formats, help=f"formats (default: {' '.join(formats)})")
    add("--quantize", nargs="+", choices=tuple(BOUNDS), default=quantize, help="LiteRT files to write (default: none)")
    arguments = parser.parse_args()
    out = pathlib.Path(arguments.out or pathlib.Path(arguments.run, "export"))
    os.environ["KERAS_BACKEND"] = "tensorflow"  # another one may not be installed
    with reported(PROGRAM), stderr_suppressed():
        model = read(arguments.run)
        if arguments.out is None and not isinstance(model, pathlib.Path):
            raise InputError("Expected --out DIR, where to write to. Received: none, and a model that is no run.")
        print(f"Converting the model of {arguments.run}, and checking the files in a fresh process ...", flush=True)
        measured = export_model(model, out, formats=arguments.to, quantize=arguments.quantize)
    for name, values in measured.items():
        print(f"  {out / name}  largest difference to Keras: {values['difference']:.1e}")


def read(run: str) -> "keras.Model | pathlib.Path":
    """Return what is to be exported, and print what a user should know of it.

    What cannot be exported is refused before anything is printed.
    """
    with warnings.catch_warnings(record=True, action="always", category=UserWarning) as caught:
        model = sources.opened(run)
    notes = [str(warning.message) for warning in caught]
    if not isinstance(model, pathlib.Path):
        notes.append("no rows of data come with it, so that rows at random check the files")
    elif read_config(model) and not (model / "examples.npz").exists():
        notes.append("the run keeps no examples.npz, so that rows at random check the files")
    for note in notes:
        print(f"note        {note}", flush=True)
    return model


if __name__ == "__main__":
    main()
