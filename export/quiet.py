"""Hides what TensorFlow and other runtimes print from C++ while they start. Imports none of them."""

import contextlib
import os
import sys
import tempfile


@contextlib.contextmanager
def hushed():
    """Hide what is written to the file descriptor of stderr meanwhile; Python's errors are shown, after it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as hidden:
        stderr = os.dup(2)
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
