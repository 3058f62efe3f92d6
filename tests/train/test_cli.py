"""train.cli: flags from a dataclass, one-line errors, a clean Ctrl-C."""

import dataclasses
import os
import shlex
import sys
import types

import pytest

from keras_sae.errors import InputError
from train import cli


@dataclasses.dataclass(frozen=True)
class Config(cli.RunConfig):
    """One field of each kind that the flags support."""

    name: str = cli.setting("plain", "what it is called")
    place: str | None = cli.setting(None, "where it goes (default: nowhere)")
    count: int = cli.setting(3, "how many")
    limit: int | None = cli.setting(None, "at most so many")
    ratio: float = cli.setting(0.5, "share, from 0 to 1")
    sizes: tuple[int, ...] = cli.setting((4, 2), "size of each layer")
    mode: str = cli.setting("fast", "how to go about it", choices=("fast", "exact"))
    machine: str | None = cli.setting(None, "which one", alone="this")
    dry_run: bool = cli.setting(False, "only show what would be done")

    def __post_init__(self):
        cli.check(0 <= self.ratio <= 1, "--ratio", "a share from 0 to 1", self.ratio)


def parse(*arguments):
    return cli.parse(Config, "train.thing", "Teaches a thing.", list(arguments))


@pytest.fixture
def refused(capsys):
    """refused(function, *arguments) -> the one line on stderr with which it ended the program, status 2."""

    def refused(function, *arguments):
        with pytest.raises(SystemExit) as ended:
            function(*arguments)
        assert ended.value.code == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.endswith("\n")
        assert len(captured.err.splitlines()) == 1
        return captured.err.rstrip("\n")

    return refused


@pytest.fixture
def main(monkeypatch):
    """main(run, *arguments) as `python -m train.thing ARGUMENTS` calls it, Keras' start-up aside."""
    monkeypatch.setattr(cli, "load_keras", lambda: None)

    def main(run, *arguments):
        monkeypatch.setattr(sys, "argv", ["thing.py", *arguments])
        return cli.main(Config, run, "train.thing", "Teaches a thing.")

    return main


def test_no_flags_give_the_defaults():
    assert parse() == Config()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--name", "two words"], {"name": "two words"}),
        (["--name="], {"name": ""}),
        (["--place", "here"], {"place": "here"}),
        (["--count", "-7"], {"count": -7}),
        (["--limit", "12"], {"limit": 12}),
        (["--ratio", "1e-3"], {"ratio": 0.001}),
        (["--ratio", "1"], {"ratio": 1.0}),
        (["--sizes", "8"], {"sizes": (8,)}),
        (["--sizes", "8", "4", "2"], {"sizes": (8, 4, 2)}),
        (["--mode", "exact"], {"mode": "exact"}),
        (["--machine"], {"machine": "this"}),
        (["--machine", "ray://other:1", "--dry-run"], {"machine": "ray://other:1", "dry_run": True}),
        (["--dry-run"], {"dry_run": True}),
        (["--sizes", "8", "4", "--dry-run", "--count", "1"], {"sizes": (8, 4), "dry_run": True, "count": 1}),
    ],
)
def test_a_flag_sets_its_field_with_its_type(arguments, expected):
    config = parse(*arguments)
    assert config == dataclasses.replace(Config(), **expected)
    assert {name: type(getattr(config, name)) for name in expected} == {n: type(v) for n, v in expected.items()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--colour", "red"], ["unrecognized arguments", "--colour"]),
        (["stray"], ["unrecognized arguments", "stray"]),
        (["--coun", "5"], ["unrecognized arguments: --coun 5. Did you mean --count? See"]),
        (["--dry"], ["unrecognized arguments", "--dry"]),
        (["--dry_run"], ["unrecognized arguments", "--dry_run"]),
        (["--count", "five"], ["--count", "int", "'five'"]),
        (["--count", "2.5"], ["--count", "int", "'2.5'"]),
        (["--count"], ["--count", "expected one argument"]),
        (["--limit", "none"], ["--limit", "int", "'none'"]),
        (["--ratio", "half"], ["--ratio", "float", "'half'"]),
        (["--sizes"], ["--sizes", "at least one"]),
        (["--sizes", "4", "x"], ["--sizes", "int", "'x'"]),
        (["--mode", "slow"], ["--mode", "'slow'", "fast", "exact"]),
        (["--mode", "exakt"], ["--mode", "'exakt'", "Did you mean exact? See"]),
        (["--dry-run=yes"], ["--dry-run", "'yes'"]),
    ],
)
def test_a_wrong_command_line_ends_with_one_line_that_points_to_help(refused, arguments, words):
    line = refused(parse, *arguments)
    assert line.startswith("train.thing: error: ")
    assert line.endswith(" See --help.")
    assert [word for word in words if word not in line] == []


def test_a_value_that_the_config_refuses_ends_with_its_message(refused):
    line = refused(parse, "--ratio", "1.5")
    assert line == "train.thing: error: --ratio expects a share from 0 to 1. Received: 1.5"


def test_check_passes_right_values_and_explains_wrong_ones():
    cli.check(True, "--n", "a number", 1)
    with pytest.raises(ValueError, match=r"^--n expects a number\. Received: x$"):
        cli.check(False, "--n", "a number", "x")


def test_fail_makes_one_line_of_several(refused):
    assert refused(cli.fail, "train.thing", "first\n  second\n\tthird") == "train.thing: error: first second third"


def test_help_teaches_every_flag_and_shows_its_default(capsys):
    with pytest.raises(SystemExit) as ended:
        parse("--help")
    assert ended.value.code == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    text = " ".join(captured.out.split())
    assert "usage: python -m train.thing" in text
    assert "Teaches a thing." in text
    for explained in [
        "--name NAME what it is called (default: plain)",
        "--place PLACE where it goes (default: nowhere) --count",
        "--count COUNT how many (default: 3)",
        "--limit LIMIT at most so many --ratio",
        "--ratio RATIO share, from 0 to 1 (default: 0.5)",
        "--sizes SIZES [SIZES ...] size of each layer (default: 4 2)",
        "--mode {fast,exact} how to go about it (default: fast)",
        "--machine [MACHINE] which one",
    ]:
        assert explained in text
    assert text.endswith("--dry-run only show what would be done")


def test_the_command_of_the_defaults_has_no_flags():
    assert cli.command("train.thing", Config()) == "python -m train.thing"


def test_the_command_names_only_what_differs_from_the_defaults():
    config = Config(sizes=(8, 4), ratio=0.25, dry_run=True, quiet=True)  # which changes nothing that is trained
    assert cli.command("train.thing", config) == "python -m train.thing --ratio 0.25 --sizes 8 4 --dry-run"


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"name": "two words"},
        {"name": 'it\'s "quoted" $HOME \\ * ; &'},
        {"name": ""},
        {"name": "größer → 0"},
        {"name": "-starts-with-a-dash"},
        {"name": "--count"},
        {"place": "my runs/first run"},
        {"count": -7, "limit": 0},
        {"ratio": 1e-05},
        {"ratio": 0.1 + 0.2},
        {"sizes": (1,)},
        {"machine": "this"},
        {"sizes": (8, 4, 2), "mode": "exact", "dry_run": True},
    ],
    ids=str,
)
def test_the_command_parses_back_to_the_same_config(changed):
    config = Config(**changed)
    words = shlex.split(cli.command("train.thing", config))
    assert words[:3] == ["python", "-m", "train.thing"]
    assert parse(*words[3:]) == config


def test_free_directory_counts_up_past_what_exists(tmp_path):
    names = []
    for make in (os.mkdir, os.mkdir, lambda path: open(path, "w").close(), os.mkdir):
        path = cli.free_directory(str(tmp_path), "mnist")
        assert not os.path.exists(path)
        make(path)
        names.append(os.path.relpath(path, tmp_path))
    assert names == ["mnist", "mnist-2", "mnist-3", "mnist-4"]


def test_free_directory_does_not_need_or_create_the_parent(tmp_path):
    parent = tmp_path / "runs"
    assert cli.free_directory(str(parent), "mnist") == str(parent / "mnist")
    assert not parent.exists()


def test_main_hands_the_parsed_config_to_run(main):
    seen = []
    main(seen.append, "--count", "5", "--dry-run")
    assert seen == [Config(count=5, dry_run=True)]


@pytest.mark.parametrize("flags", [[], ["--quiet"]])
def test_a_quiet_command_prints_errors_alone(flags, main, capsys):
    seen = []

    def run(config, verbose=1):
        print("accuracy 97 %")
        print("a warning", file=sys.stderr)
        seen.append((config.count, verbose))

    main(run, "--count", "5", *flags)
    assert seen == [(5, 0 if flags else 1)]
    assert capsys.readouterr() == ("" if flags else "accuracy 97 %\n", "a warning\n")
    print("heard again")
    assert capsys.readouterr().out == "heard again\n"


def test_a_run_resumes_quietly(main, monkeypatch, capsys):
    monkeypatch.setattr(cli, "resumed", lambda *_: Config(count=7))
    seen = []
    main(lambda config, verbose=1: seen.append((config, verbose)) or print("noise"), "--resume", "run", "--quiet")
    assert seen == [(Config(count=7), 0)]
    assert capsys.readouterr().out == ""


def test_main_does_not_run_or_import_after_a_wrong_flag(main, refused, monkeypatch):
    def unexpected(*_):
        raise AssertionError("reached")

    monkeypatch.setattr(cli, "load_keras", unexpected)
    assert "--colour" in refused(main, unexpected, "--colour", "red")


def test_main_reports_bad_input_in_one_line(main, refused):
    def run(config):
        raise InputError(f"Expected two\nlines. Received: {config.count}.")

    assert refused(main, run, "--count", "9") == "train.thing: error: Expected two lines. Received: 9."


def test_main_shows_the_trace_of_our_own_faults(main):
    def run(config):
        raise ValueError("a fault of ours")

    with pytest.raises(ValueError, match="a fault of ours"):
        main(run)


def test_ctrl_c_while_running_ends_with_130_and_says_what_is_kept(main, capsys):
    def run(config):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        main(run)
    assert ended.value.code == 130
    message = "train.thing: interrupted. Nothing was written."
    assert capsys.readouterr().err.strip() == message


def test_ctrl_c_during_start_up_ends_with_130_and_without_logs(main, monkeypatch, capfd):
    def interrupted():
        os.write(2, b"I0000 a line of TensorFlow's C++\n")
        raise KeyboardInterrupt

    monkeypatch.undo()  # the real load_keras
    monkeypatch.setattr(cli, "describe_device", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(lambda config: None)
    assert ended.value.code == 130
    assert "I0000" not in capfd.readouterr().err


def test_the_start_up_hides_log_lines(monkeypatch, capfd):
    monkeypatch.setattr(cli, "describe_device", lambda: os.write(2, b"I0000 noise\n"))
    cli.load_keras()
    print("still heard", file=sys.stderr, flush=True)
    os.write(2, b"and from C++\n")
    assert capfd.readouterr().err == "still heard\nand from C++\n"


def test_the_start_up_shows_log_lines_when_it_fails(monkeypatch, capfd):
    def broken():
        os.write(2, b"libcuda is too old\n")
        raise ImportError("no TensorFlow")

    monkeypatch.setattr(cli, "describe_device", broken)
    with pytest.raises(ImportError, match="no TensorFlow"):
        cli.load_keras()
    assert capfd.readouterr().err == "libcuda is too old\n"


@pytest.mark.parametrize(
    ("gpus", "details", "expected"),
    [
        ([], {}, f"CPU, {os.cpu_count()} cores (TensorFlow sees no GPU)"),
        (["first", "second"], {"device_name": "Model 7"}, "GPU, Model 7"),
        (["first"], {}, "GPU, first"),
    ],
)
def test_the_device_is_described_in_words(monkeypatch, gpus, details, expected):
    import tensorflow as tf

    devices = {"GPU": [types.SimpleNamespace(name=name) for name in gpus]}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: devices[kind])
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: details if gpu.name == "first" else {}
    )
    assert cli.describe_device() == expected
