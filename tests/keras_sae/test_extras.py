import pytest

from keras_sae import extras
from keras_sae.errors import InputError
from tests.keras_sae.conftest import raises


def test_a_module_that_is_there_is_returned():
    assert extras.imported("json.decoder").JSONDecoder
    extras.check("json", "be read")


@pytest.mark.parametrize("kind", [InputError, ImportError])
def test_a_missing_package_names_the_extra_that_brings_it(kind, monkeypatch):
    monkeypatch.setitem(extras._EXTRAS, "not_there", ("not-there", "own"))
    for act in (extras.imported, extras.check):
        line = "Expected not-there to do this. Received: Python without it. pip install 'keras-sae[own]'"
        with raises(kind, line):
            act("not_there", "do this")
