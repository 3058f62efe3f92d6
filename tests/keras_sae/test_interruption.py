"""keras_sae.interruption: what ends a process as Ctrl-C does."""

import contextlib
import os
import signal
import threading

import pytest

from keras_sae import interruption
from keras_sae.cli import reported

SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


@pytest.mark.parametrize("name", SIGNALS)
def test_a_command_ends_as_by_ctrl_c(name, capsys, request):
    number = getattr(signal, name)
    inherited = signal.getsignal(number)
    request.addfinalizer(lambda: signal.signal(number, inherited))
    before = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
    signal.signal(number, before)  # nohup has it ignored
    with pytest.raises(SystemExit) as ended, reported("train.own", lambda: "All is saved."):
        os.kill(os.getpid(), number)
    assert ended.value.code == SIGNALS[name]
    assert capsys.readouterr().err == "\ntrain.own: interrupted. All is saved.\n"
    assert signal.getsignal(number) == before


def test_an_interruption_that_python_dropped():
    with interruption.interruptible():
        interruption.check()
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # again, while all is tidied up
        with pytest.raises(KeyboardInterrupt):
            interruption.check("an epoch")
    with interruption.interruptible():
        interruption.check()


def test_what_the_process_was_told_to_ignore():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruption.interruptible():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_ask_for_no_signals():
    found = []

    def work():
        with interruption.interruptible():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
