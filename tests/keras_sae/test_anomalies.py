"""What is usual: quantiles of held-out errors, and how odd columns are beside theirs."""

import math

import numpy as np
import pytest

from keras_sae import anomalies
from keras_sae.anomalies import LEVELS, UsualErrors
from keras_sae.errors import InputError
from keras_sae.runs import cards
from tests.keras_sae.conftest import autoencoder, raises


def usual_errors(number, columns=(0.1, 0.2)):
    errors = np.random.default_rng(0).exponential(size=number)
    return UsualErrors(number, {q: float(anomalies.quantile(errors, q)) for q in LEVELS}, np.array(columns))


@pytest.mark.parametrize("number", [1, 9, 19, 60, 99, 999, 1000])
@pytest.mark.parametrize("level", LEVELS)
def test_a_quantile_is_the_error_of_its_rank(number, level):
    """k = ceil((n + 1) q) in exact fractions; of fewer rows than it asks for it is the largest."""
    errors = np.random.default_rng(0).permutation(number) + 1.0
    thousandths = round(1000 * level)
    k = -(-(number + 1) * thousandths // 1000)
    assert anomalies.quantile(errors, level) == min(k, number)
    assert usual_errors(number).supports(level) == (k <= number) == (number >= anomalies.needed_rows(level))


def test_no_more_rows_than_said_are_above_a_quantile():
    """The mean over many draws of 99 held-out rows and a new one, of a distribution with a heavy tail."""
    errors = np.random.default_rng(0).pareto(1.0, size=(20_000, 100))
    above = [np.mean(row[-1] > anomalies.quantile(row[:-1], 0.95)) for row in errors]
    assert np.mean(above) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 20_000))


@pytest.mark.parametrize(
    ("number", "level"), [(1, 0.5), (8, 0.5), (9, 0.9), (18, 0.9), (19, 0.95), (99, 0.99), (9999, 0.99)]
)
def test_the_default_is_the_highest_level_that_the_rows_support_but_no_higher_than_99_percent(number, level):
    assert usual_errors(number).level == level


def test_the_errors_of_a_model_are_those_of_numpy():
    ae, x = autoencoder(), np.random.default_rng(1).uniform(size=(19, 6)).astype("float32")
    kernel, bias, back, last = (weights.astype("float64") for weights in ae.get_weights())
    xhat = 1 / (1 + np.exp(-(1 / (1 + np.exp(-(x @ kernel + bias))) @ back + last)))
    terms = (xhat - x) ** 2 / 2
    found = UsualErrors.measure(ae, x)
    assert found.rows == 19
    np.testing.assert_allclose(found.quantiles[0.5], np.sort(terms.sum(axis=1))[9], rtol=1e-5)
    np.testing.assert_allclose(found.quantiles[0.95], terms.sum(axis=1).max(), rtol=1e-5)
    np.testing.assert_allclose(found.columns, terms.max(axis=0), rtol=1e-4)


def test_the_columns_of_many_rows_rest_on_some_of_them(monkeypatch):
    ae, x = autoencoder(), np.random.default_rng(1).uniform(size=(50, 6)).astype("float32")
    monkeypatch.setattr(anomalies, "SAMPLE", (10, 2**27))
    np.testing.assert_allclose(UsualErrors.measure(ae, x).columns, UsualErrors.measure(ae, x[::5]).columns)
    monkeypatch.setattr(anomalies, "SAMPLE", (10_000, 10 * 6 * 8))
    np.testing.assert_allclose(UsualErrors.measure(ae, x).columns, UsualErrors.measure(ae, x[::5]).columns)
    assert UsualErrors.measure(ae, x).rows == 50


def test_what_is_recorded_is_read_again():
    usual = usual_errors(60, [0.123456789, 2e-9])
    record = usual.record()
    assert record["columns"] == [0.12346, 2e-9]
    found = UsualErrors.read(record, "run")
    assert found.rows == 60
    assert found.quantiles == pytest.approx(usual.quantiles, rel=1e-4)
    np.testing.assert_allclose(found.columns, usual.columns, rtol=1e-4)


@pytest.mark.parametrize("record", [None, {}, {"rows": 0}, [], {"rows": 3, "quantiles": {"0.5": 1}, "columns": []}])
def test_a_damaged_record_is_refused(record):
    said = "Received: the run, whose usual_errors are damaged. Train or export it again."
    with raises(InputError, "Expected the usual errors of held-out rows, as training writes them.", said):
        UsualErrors.read(record, "the run")


def test_a_column_is_odd_beside_its_own_usual_error():
    """By hand: the first has the larger error, as always; the second is five times what is usual of it."""
    usual = usual_errors(99, [1.0, 0.1])
    np.testing.assert_allclose(usual.shares(np.array([[1.0, 0.5], [3.0, 0.0]])), [[1 / 6, 5 / 6], [1, 0]])


def test_the_rounding_of_a_constant_column_is_not_odd_but_another_value_is():
    usual = usual_errors(99, [1.0, 1e-12])
    shares = usual.shares(np.array([[1.0, 1e-9], [1.0, 1.0]]))
    assert shares[0, 1] < 1e-6
    assert shares[1, 1] == pytest.approx(200 / 201, rel=1e-2)  # the floor is 0.01 of the mean, 0.5


def test_rows_without_any_error_have_no_odd_columns():
    assert UsualErrors(1, {}, np.zeros(2)).shares(np.zeros((1, 2))).tolist() == [[0, 0]]


def test_the_card_shows_the_quantiles_that_its_rows_support(tmp_path):
    usual = usual_errors(60)
    text = cards.render(tmp_path, {"usual_errors": usual.record()}, {})
    assert "Errors of the 60 held-out rows: half the squared distance" in text
    assert "| q | 0.5 | 0.9 | 0.95 |\n" in text
    assert f"| error | {' | '.join(f'{usual.quantiles[q]:.5g}' for q in (0.5, 0.9, 0.95))} |\n" in text
    assert f"`python -m export.anomalies {tmp_path} --data FILE --out scores.csv`" in text
    assert "Odd rows" not in cards.render(tmp_path, {}, {})
