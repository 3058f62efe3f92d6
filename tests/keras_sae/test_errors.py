import pytest

from keras_sae.errors import InputError, reported


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
