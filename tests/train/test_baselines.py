"""What features are compared with, and what is said if they are worse."""

import pytest

from train import baselines

GOOD = {
    "error_held_out": 1.0, "error_mean_held_out": 2.0, "accuracy_greedy": 0.9, "accuracy_finetuned": 0.95,
    "accuracy_raw": 0.8, "accuracy_pca": 0.9, "accuracy_untrained": 0.5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        (
            {"error_held_out": 2.5},
            ["on held-out rows the reconstruction (error 2.5) is no better than the mean of the training rows (2): "
             "train longer, with more --units or a lower --beta"],
        ),
        (
            {"accuracy_raw": 0.925, "accuracy_untrained": 0.91},
            ["on held-out rows a softmax does better without these features (90.00%): the scaled inputs 92.50%, as "
             "many units with random weights 91.00%"],
        ),
        ({"accuracy_finetuned": 0.85}, ["fine-tuning lowered the accuracy on held-out rows from 90.00% to 85.00%"]),
    ],
)  # fmt: skip
def test_what_speaks_against_a_run_is_said(change, expected):
    assert baselines.verdicts(GOOD | change) == expected


def test_without_labels_the_reconstruction_alone_is_judged():
    assert baselines.verdicts({"error_held_out": 1.0, "error_mean_held_out": 2.0}) == []
