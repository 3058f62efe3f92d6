"""What the tests of the export commands share."""

import sys

import pytest


@pytest.fixture
def refused(main, capfd):
    """refused(*arguments) -> the one line on stderr with which the command ended, status 2.

    main: a fixture of each file, which calls its command with arguments, under its name in sys.argv.
    """

    def refused(*arguments):
        capfd.readouterr()  # what TensorFlow says as it starts
        with pytest.raises(SystemExit) as ended:
            main(*arguments)
        assert ended.value.code == 2
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(f"{sys.argv[0]}: error: ")
        return lines[0]

    return refused
