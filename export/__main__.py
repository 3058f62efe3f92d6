"""Export the model of a training run for deployment, checked against Keras on real held-out inputs.

RUN is the --out of a training command. Writes, each only if it gives what Keras gives,
  DIR/saved_model/1/    for TensorFlow Serving, with signatures encode, decode, reconstruct, score, classify, images as
                        the run has them; a later export to the same DIR adds version 2, which a running server takes up
  DIR/encoder.tflite    for LiteRT (TFLite); with --quantize also encoder_float16.tflite and so on
  DIR/encoder.onnx      for ONNX runtimes
  DIR/README.md         how to call them, with size, error, accuracy and time of each as measured

  python -m export runs/mnist --out exports/mnist
  python -m export runs/mnist --out exports/mnist --to saved_model litert onnx --quantize none float16 dynamic int8
"""

import pathlib

from keras_sae.cli import Parser, reported, stderr_suppressed
from keras_sae.records import read_config

from .exporting import BOUNDS, PROGRAM, check_backend, export_model
from .layout import FORMATS


def main() -> None:
    parser = Parser(PROGRAM, __doc__)
    add = parser.add_argument
    add("run", metavar="RUN", type=pathlib.Path, help="directory of a finished training run")
    add("--out", metavar="DIR", help="new or empty directory, or an earlier export (default: RUN/export)")
    formats, quantize = ["saved_model", "litert"], ["none"]
    add("--to", nargs="+", choices=FORMATS, default=formats, help=f"formats (default: {' '.join(formats)})")
    add("--quantize", nargs="+", choices=tuple(BOUNDS), default=quantize, help="LiteRT files to write (default: none)")
    arguments = parser.parse_args()
    out = pathlib.Path(arguments.out or arguments.run / "export")
    with reported(PROGRAM), stderr_suppressed():
        check_backend()
        read_config(arguments.run)  # what cannot be exported is refused before anything is printed
        if not (arguments.run / "examples.npz").exists():
            print("note        the run keeps no examples.npz, so that rows at random check the files", flush=True)
        print(f"Converting the model of {arguments.run}, and checking the files in a fresh process ...", flush=True)
        measured = export_model(arguments.run, out, formats=arguments.to, quantize=arguments.quantize)
    for name, values in measured.items():
        print(f"  {out / name}  largest difference to Keras: {values['difference']:.1e}")


if __name__ == "__main__":
    main()
