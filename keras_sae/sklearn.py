"""Sparse autoencoders as a scikit-learn transformer: in pipelines, in searches and on columns of tables."""

from typing import Any

import keras
import numpy as np

from .extras import check

check("sklearn", "make transformers with")

from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from .autoencoder import draw_weights
from .data.batches import predict_in_chunks
from .metrics import half_variance
from .stack import StackedAutoencoder, build_stack


class SparseFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features of a sparse autoencoder, or of a stack of them, learned from rows without labels.

    It computes in float32, on the Keras backend; `model_` is a `StackedAutoencoder` that takes the rows as they are,
    to save, to export or to train further.

    Args:
        units: hidden units, or a tuple of those of each layer, from the input upwards.
        rho: target mean activation of a hidden unit, between 0 and 1.
        beta: weight of the sparsity penalty; None for 0.1 of half the variance of a layer's inputs.
        weight_decay: lambda of lambda/2 times the sum of squared weights; None for 0.0001 of the same.
        optimizer: "lbfgs", which takes all rows at once, or the name of a Keras optimizer, such as "adam".
        iterations: steps of L-BFGS at most, or epochs; None for the defaults of `keras_sae.fit`.
        scale: whether to scale each column to [0, 1] by its least and largest value in the training data, a constant
            column to 0. Without, the outputs are linear.
        random_state: of the initial weights and of the order of minibatches, as in scikit-learn.
        verbose: 1 shows a progress bar for each layer; 0 is silent.

    Attributes:
        model_: the trained `keras_sae.StackedAutoencoder`.
        history_: a dict of lists for each layer, the `history` of its training.
        data_min_, data_range_: of each column, if `scale`.
        n_features_in_, feature_names_in_: of the training data.

    >>> features = SparseFeatures(units=64, rho=0.1, random_state=0)
    >>> pipeline = make_pipeline(features, LogisticRegression()).fit(x, labels)
    """

    def __init__(
        self,
        units: int | tuple[int, ...] = 64,
        *,
        rho: float = 0.1,
        beta: float | None = None,
        weight_decay: float | None = None,
        optimizer: str = "lbfgs",
        iterations: int | None = None,
        scale: bool = True,
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.units = units
        self.rho = rho
        self.beta = beta
        self.weight_decay = weight_decay
        self.optimizer = optimizer
        self.iterations = iterations
        self.scale = scale
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> "SparseFeatures":
        """Learn features from the rows of X, (examples, columns), an array, a table or sparse; y is ignored."""
        X = self._validated(X, reset=True, ensure_min_samples=2)
        preprocessing = self._fit_scaling(X) if self.scale else None
        self.model_ = build_stack(
            np.atleast_1d(self.units).tolist(),
            half_variance(X, preprocessing),
            self.rho,
            self.beta,
            self.weight_decay,
            preprocessing,
            "sigmoid" if self.scale else "linear",
        )
        self.model_.build((None, X.shape[1]))
        random = check_random_state(self.random_state)
        draw_weights(self.model_, random)
        seed = {} if self.optimizer == "lbfgs" else {"seed": random.randint(2**31)}
        histories = self.model_.pretrain(X, self.optimizer, self.iterations, verbose=self.verbose, **seed)
        self.history_ = [history.history for history in histories]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the features of X, (examples, units) float32."""
        return self._model().transform(self._validated(X))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the rows, (examples, columns), that features X, (examples, units), stand for."""
        decoded = predict_in_chunks(self._model().decoder, check_array(X, dtype="float32"))
        return self.data_min_ + self.data_range_ * decoded if self.scale else decoded

    def score_samples(self, X: Any) -> np.ndarray:
        """Return minus half the squared error of the reconstruction of each row, as scaled: the lower, the odder.

        The sign is that of IsolationForest, GaussianMixture and PCA, whose `score_samples` is larger for usual rows.
        """
        return -self._model().reconstruction_error(self._validated(X))

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean of `score_samples`: the larger, the better the reconstructions of X; y is ignored."""
        return float(self.score_samples(X).mean())

    def _validated(self, X: Any, reset: bool = False, **options: Any) -> Any:
        return validate_data(self, X, reset=reset, accept_sparse="csr", dtype="float32", **options)

    def _model(self) -> StackedAutoencoder:
        check_is_fitted(self)
        return self.model_

    def _fit_scaling(self, X: Any) -> keras.Sequential:
        """Return layers that scale the columns of X to [0, 1], and beyond in other rows: no outlier is cut off."""
        low, high = (np.asarray(extreme.todense() if hasattr(extreme, "todense") else extreme, "float64").reshape(-1)
                     for extreme in (X.min(axis=0), X.max(axis=0)))  # fmt: skip
        self.data_min_, self.data_range_ = low, high - low
        width = np.where(high > low, high - low, 1.0)
        layers = [keras.layers.Rescaling(1.0, -low), keras.layers.Rescaling(1.0 / width)]
        return keras.Sequential([keras.Input((len(low),)), *layers], name="preprocessing")

    @property
    def _n_features_out(self) -> int:
        return self.model_.autoencoders[-1].units

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and joblib write: of the model its configuration and its weights, no Keras object."""
        state = dict(super().__getstate__())
        if "model_" in state:
            state["model_"] = keras.saving.serialize_keras_object(self.model_), self.model_.get_weights()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_" in state:
            config, weights = state["model_"]
            self.model_ = keras.saving.deserialize_keras_object(config)  # built as it was
            self.model_.set_weights(weights)
