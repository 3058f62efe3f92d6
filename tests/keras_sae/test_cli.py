import errno
import io
import os
import sys

import pytest

from keras_sae import cli
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


@pytest.mark.parametrize("error", [OSError("without a number"), ConnectionResetError(errno.ECONNRESET, "gone")])
def test_other_errors_of_the_system_keep_their_stack_trace(error, capsys):
    with pytest.raises(OSError, match=r"without a number|gone"), reported("train.own", lambda: "Nothing lost."):
        raise error
    assert capsys.readouterr().err == ""


def test_a_program_that_ends_well_says_nothing(capsys):
    with reported("train.own", lambda: "Nothing lost."):
        pass
    assert capsys.readouterr().err == ""


# --- how the user calls commands ---


@pytest.fixture
def started(monkeypatch):
    """started(as, in_checkout) makes this process look as if it had been started so."""

    def started(name, in_checkout):
        monkeypatch.setattr(cli, "STARTED_AS", name)
        monkeypatch.setattr(cli, "IN_CHECKOUT", in_checkout)

    return started


TEXT = """python -m train.mnist --out DIR; `python -m export RUN`, python -m export.features X
python -m train.NAME; python -m benchmarks.digits; python -m exports"""
CONSOLE = """keras-sae train mnist --out DIR; `keras-sae export RUN`, keras-sae features X
keras-sae train NAME; python -m benchmarks.digits; python -m exports"""


@pytest.mark.parametrize(
    ("name", "in_checkout", "expected"),
    [
        ("train.mnist", True, TEXT),
        ("", True, TEXT),
        ("keras-sae", True, CONSOLE),
        ("keras_sae", True, CONSOLE),
        ("", False, CONSOLE),
        ("keras_sae.train.mnist", False, CONSOLE),
    ],
)
def test_commands_are_spelled_as_the_user_has_them(name, in_checkout, expected, started):
    started(name, in_checkout)
    assert cli.spelled(TEXT) == expected


def test_help_and_errors_name_the_command_that_the_user_has(started, capsys):
    started("keras-sae", True)
    with pytest.raises(SystemExit):
        cli.Parser("train.own", "Learn:\n  python -m train.own --help").parse_args(["--help"])
    assert "usage: keras-sae train own [-h]\n\nLearn:\n  keras-sae train own --help" in capsys.readouterr().out
    with pytest.raises(SystemExit), reported("train.own", lambda: "Resume it: python -m train.own --resume runs/1"):
        raise KeyboardInterrupt
    assert "Resume it: keras-sae train own --resume runs/1" in capsys.readouterr().err
    with pytest.raises(SystemExit), reported("export"):
        raise InputError("Make one: python -m export RUN")
    assert capsys.readouterr().err == "export: error: Make one: keras-sae export RUN\n"


def test_names_that_are_no_text_are_printed(monkeypatch, capsys):
    """A file's name may hold bytes that are no UTF-8, and a file any character that a terminal obeys."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "utf-8"))
    cli.Parser("train.own", "Learn")
    print("a\udcff", flush=True)
    assert written.getvalue() == b"a\\udcff\n"
    with pytest.raises(SystemExit):
        cli.fail("own", "no file a\udcff\x1b[2J größer")
    assert capsys.readouterr().err == "own: error: no file a\\udcff\\x1b[2J größer\n"


@pytest.mark.parametrize(
    ("arguments", "original", "name"),
    [
        (["-m", "--help"], ["python", "-m", "train.mnist", "--help"], "train.mnist"),
        (["-m"], ["python", "-X", "utf8", "-m", "keras_sae"], "keras_sae"),
        (["/opt/bin/keras-sae", "train"], ["python", "/opt/bin/keras-sae", "train"], "keras-sae"),
        (["keras-sae.exe"], ["python.exe", "keras-sae.exe"], "keras-sae"),
        (["script.py", "-m"], ["python", "script.py", "-m"], ""),
        (["-c"], ["python", "-c", "import keras_sae"], ""),
        ([""], ["python"], ""),
    ],
)
def test_how_a_process_was_started(arguments, original, name, monkeypatch):
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert cli._started_as() == name


@pytest.mark.parametrize(
    ("name", "in_checkout", "own"),
    [
        ("keras-sae", False, True),
        ("keras_sae.export.convert", False, True),
        ("train.mnist", True, True),
        ("train.mnist", False, False),  # somebody else's
        ("pytest", True, False),
        ("", True, False),
    ],
)
def test_which_processes_run_a_command_of_ours(name, in_checkout, own, started):
    started(name, in_checkout)
    assert cli.is_own_command() == own


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Have them resized: image_size=N.", "Have them resized: --image-size N."),
        ("Received: image_size=(3, 4). Leave it out.", "Received: --image-size 3 4. Leave it out."),
        ("read it as data: no_header=True.", "read it as data: --no-header."),
        ("Expected labels='folders' for images, labels=...", "Expected --labels folders for images, --labels"),
        ("a feature of np.savez(x=x), index=False", "a feature of np.savez(x=x), index=False"),
    ],
)
def test_arguments_in_messages_become_flags(text, expected):
    assert cli.with_flags(text, ["labels", "feature", "image_size", "no_header"]) == expected
