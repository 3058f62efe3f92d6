"""The stacked digit classifier in the classic NumPy/SciPy form and by `python -m train.mnist`, both timed here.

Same data, sizes, penalties and numbers of L-BFGS iterations; initial weights differ. The classic form takes about
15 minutes on two cores, so `--only keras_sae` leaves it out.

  python -m benchmarks.digits --data DIR             DIR holds the four IDX files of MNIST
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="embedded", help="folder with IDX files (default: the 5,000 embedded digits)")
    parser.add_argument("--iterations", type=int, default=200, help="of each stage (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights (default: %(default)s)")
    parser.add_argument("--only", choices=("classic", "keras_sae"), help="measure one of the two")
    options = parser.parse_args()
    print("| form | stage | objective | test accuracy | seconds |\n|---|---|---|---|---|", flush=True)
    totals = {}
    if options.only != "classic":
        totals["keras_sae"] = ours(options)
    if options.only != "keras_sae":
        totals["classic"] = classic(options)
    if len(totals) == 2:
        print(f"\nkeras_sae takes {totals['keras_sae'] / totals['classic']:.3f} of the classic form's time.")


def ours(options):
    """Seconds of `python -m train.mnist`, start-up, evaluation and pictures included; prints a row for each stage."""
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder) / "run"
        command = [sys.executable, "-m", "train.mnist", "--data", options.data, "--out", str(run)]
        command += ["--seed", str(options.seed), "--max-iterations", str(options.iterations)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        metrics = json.loads((run / "metrics.json").read_text())
    for stage, accuracy in [("layer_1", None), ("layer_2", None), ("head", "greedy"), ("finetuned", "finetuned")]:
        row(
            "keras_sae",
            stage,
            metrics[f"objective_{stage}"],
            metrics.get(f"accuracy_{accuracy}"),
            metrics[f"seconds_{stage}"],
        )
    row("keras_sae", "all", None, None, metrics["seconds_total"])
    return metrics["seconds_total"]


def classic(options):
    """Seconds of the classic form, training alone; prints a row for each stage."""
    from benchmarks.classic import stacked_exercise
    from keras_sae.data import datasets

    images = datasets.load_images("mnist", options.data)
    total = 0.0
    for stage, cost, _, _, seconds, accuracy in stacked_exercise(
        images.x_train, images.y_train, images.x_test, images.y_test, iterations=options.iterations, seed=options.seed
    ):
        row("classic", stage, cost, accuracy, seconds)
        total += seconds
    row("classic", "all", None, None, total)
    return total


def row(form, stage, objective, accuracy, seconds):
    objective = "" if objective is None else f"{objective:.4f}"
    accuracy = "" if accuracy is None else f"{accuracy:.2%}"
    print(f"| {form} | {stage} | {objective} | {accuracy} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
