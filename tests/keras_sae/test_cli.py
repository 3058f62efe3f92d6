import errno
import os

import pytest

from keras_sae.cli import reported
from keras_sae.errors import InputError


def test_input_error_ends_the_program_with_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit) as ended, reported("train.own", lambda: "Nothing lost."):
        raise InputError("Expected this.\n  Received that.")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "train.own: error: Expected this. Received that.\n"


def test_interrupt_ends_the_program_with_status_130(capsys):
    with pytest.raises(SystemExit) as ended, reported("train.own", lambda: "Nothing lost."):
        raise KeyboardInterrupt
    assert ended.value.code == 130
    assert capsys.readouterr().err == "\ntrain.own: interrupted. Nothing lost.\n"


def test_other_errors_keep_their_stack_trace():
    with pytest.raises(ZeroDivisionError), reported("train.own", lambda: "Nothing lost."):
        _ = 1 / 0


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_disk_that_cannot_be_written_to_ends_the_program_with_one_line_and_status_2(number, capsys):
    with pytest.raises(SystemExit) as ended, reported("train.own", lambda: "Go on:\n--resume runs/own"):
        raise OSError(number, os.strerror(number), "runs/own/config.json")
    assert ended.value.code == 2
    what = f"Expected to read and write runs/own/config.json. Received: {os.strerror(number)}. Go on: --resume runs/own"
    assert capsys.readouterr().err == f"train.own: error: {what}\n"


def test_a_full_disk_without_the_name_of_the_file(capsys):
    """As NumPy and zipfile raise it in the middle of a file."""
    with pytest.raises(SystemExit), reported("train.own", lambda: "Nothing lost."):
        raise OSError(errno.ENOSPC, "No space left on device")
    line = "train.own: error: Expected to read and write files. Received: No space left on device. Nothing lost.\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("error", [OSError("without a number"), FileNotFoundError(errno.ENOENT, "gone", "file")])
def test_other_errors_of_the_system_keep_their_stack_trace(error, capsys):
    with pytest.raises(OSError, match=r"without a number|gone"), reported("train.own", lambda: "Nothing lost."):
        raise error
    assert capsys.readouterr().err == ""


def test_a_program_that_ends_well_says_nothing(capsys):
    with reported("train.own", lambda: "Nothing lost."):
        pass
    assert capsys.readouterr().err == ""
