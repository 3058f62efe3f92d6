"""Keras' other backends, each in an environment without TensorFlow: the same values, training, runs and gradients."""

import importlib.metadata
import os
import pathlib
import subprocess

import pytest

from tests import environment

ROOT = pathlib.Path(__file__).parents[2]
# What this library needs beside its backend, and what writes logs.
OURS = ["keras", "numpy", "scipy", "tqdm", "lazy-loader", "filelock", "tensorboard"]
HERE = pathlib.Path(__file__).parent
FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # to compile, which most of it is
FOUR = "--xla_force_host_platform_device_count=4"


@pytest.mark.parametrize(
    ("backend", "checks", "flags"),
    [("jax", "checks.py", FAST), ("torch", "checks.py", ""), ("jax", "devices.py", f"{FAST} {FOUR}")],
)
def test_a_backend_in_an_environment_without_tensorflow(backend, checks, flags, tmp_path):
    try:
        importlib.metadata.distribution(backend)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs {backend}: pip install {backend}")
    python = environment.make(tmp_path / "environment", [*OURS, backend, "pytest", "hypothesis"])
    variables = {"KERAS_BACKEND": backend, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest", HERE / checks]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
