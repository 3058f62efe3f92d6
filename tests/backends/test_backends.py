"""Keras' other backends, each in an environment without TensorFlow: the same values, training, runs and gradients."""

import importlib.metadata
import os
import pathlib
import subprocess

import pytest

from tests import environment

ROOT = pathlib.Path(__file__).parents[2]
OURS = ["keras", "numpy", "scipy", "tqdm", "lazy-loader"]  # what this library needs beside its backend
HERE = pathlib.Path(__file__).parent
FOUR = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}


@pytest.mark.parametrize(
    ("backend", "checks", "devices"),
    [("jax", "checks.py", {}), ("torch", "checks.py", {}), ("jax", "devices.py", FOUR)],
)
def test_a_backend_in_an_environment_without_tensorflow(backend, checks, devices, tmp_path):
    try:
        importlib.metadata.distribution(backend)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs {backend}: pip install {backend}")
    python = environment.make(tmp_path / "environment", [*OURS, backend, "pytest", "hypothesis"])
    variables = {"KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", **devices}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", HERE / checks]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
