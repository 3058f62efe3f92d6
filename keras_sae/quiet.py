"""A quiet start: what TensorFlow prints from C++ as it starts, of oneDNN, AVX and absent GPUs, is no news.

`import keras_sae` and the commands use it. TF_CPP_MIN_LOG_LEVEL=0 in the environment shows all of it.
"""

import contextlib
import glob
import os
import re
import sys
import tempfile
from collections.abc import Iterator

from .errors import InputError

LEVEL = "TF_CPP_MIN_LOG_LEVEL"  # 1 hides information, 2 warnings as well; its first lines TensorFlow prints in any case
_NO_NEWS = re.compile(
    r"I\d{4} \d\d:|\d{4}-\d\d-\d\d [\d:.]+: I |WARNING: All log messages before absl::InitializeLog|"
    r"To enable the following instructions: |.*failed call to cuInit"
)


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Hide TensorFlow's lines of information while the block imports it; what else is said is shown after it.

    Nothing is hidden if it is imported already, or if the user asked for all lines. On a machine without a GPU,
    TensorFlow looks for one within the block rather than at the first computation, which is when it says so; and
    warnings from C++ are hidden for good, such as those on float64 ("Not handling type DT_DOUBLE"). With a GPU they may
    say that it is not used.
    """
    gpu = bool(glob.glob("/dev/nvidia*")) or os.path.exists("/dev/dxg")
    level = "1" if gpu else "2"
    if "tensorflow" in sys.modules or os.environ.setdefault(LEVEL, level) == "0" or not _has_stderr():
        yield
        return
    with _hidden() as lines:
        yield
        tensorflow = sys.modules.get("tensorflow")
        if tensorflow is not None and not gpu:
            tensorflow.config.list_physical_devices()
    news = [line for line in lines if not _NO_NEWS.match(line)]
    os.write(2, "".join(news).encode(errors="surrogateescape"))


@contextlib.contextmanager
def stderr_suppressed() -> Iterator[None]:
    """Hide what TensorFlow and other runtimes print from C++ to stderr; if an exception leaves the block, show it."""
    os.environ.setdefault(LEVEL, "2")
    with _hidden():
        yield


@contextlib.contextmanager
def _hidden() -> Iterator[list[str]]:
    """Hide what is written to stderr, and give its lines once the block has ended.

    If an exception leaves the block, which the user cannot mend by its message alone, they are shown before it.
    """
    lines: list[str] = []
    if sys.stderr is not None:
        sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        except Exception as error:
            if not isinstance(error, InputError):
                file.seek(0)
                os.write(stderr, file.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            file.seek(0)
            lines += file.read().decode(errors="surrogateescape").splitlines(keepends=True)


def _has_stderr() -> bool:
    """Return whether this process has a stderr, which a daemon or a program without a console may lack."""
    try:
        os.fstat(2)
    except OSError:
        return False
    return True
