"""Which actor has which shards, and the tree in which their sums are added up."""

import itertools
import pathlib

import numpy as np
import pytest
from hypothesis import given, strategies as st

from keras_sae.cluster import shards
from tests.keras_sae.conftest import raises


def test_neighbouring_shards_go_to_one_actor():
    assert shards.assigned(7, 3) == [range(2), range(2, 4), range(4, 7)]
    assert shards.assigned(2, 3) == [range(0), range(1), range(1, 2)]  # more actors than shards


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (range(8), [(0, 8)]),  # the whole tree
        (range(4, 8), [(4, 4)]),
        (range(5), [(0, 4), (4, 1)]),
        (range(3, 7), [(3, 1), (4, 2), (6, 1)]),  # not (3, 4), which begins at no multiple of 4
        (range(2, 2), []),
    ],
    ids=str,
)
def test_the_largest_subtrees_that_shards_fill(own, expected):
    assert [*shards.subtrees(own)] == expected


@given(st.integers(1, 40), st.integers(1, 9))
def test_the_subtrees_of_all_actors_are_all_shards_once(number, actors):
    trees = [tree for own in shards.assigned(number, actors) for tree in shards.subtrees(own)]
    assert [shard for first, size in trees for shard in range(first, first + size)] == [*range(number)]
    assert all(first % size == 0 for first, size in trees)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=20), st.integers(1, 5))
def test_sums_have_the_same_bits_for_any_number_of_actors(values, actors):
    def of_actors(number):
        trees = [tree for own in shards.assigned(len(values), number) for tree in shards.subtrees(own)]
        known = lambda first, size: [values[first]] if size == 1 else None  # noqa: E731
        parts = {tree: shards.tree_sum(*tree, known) for tree in trees}
        return shards.sum_over_shards(len(values), parts)

    assert of_actors(actors) == of_actors(1)


def test_the_order_is_that_of_a_tree():
    values = [1e16, 1.0, -1e16, 1.0, 1.0]  # ((1e16 + 1) + (-1e16 + 1)) + 1, where 1e16 + 1 is 1e16
    parts = {(i, 1): [value] for i, value in enumerate(values)}
    assert shards.sum_over_shards(5, parts) == [(1e16 + 1.0) + (-1e16 + 1.0) + 1.0]


def test_shards_without_rows_add_nothing():
    assert shards.sum_over_shards(3, {(0, 1): [2, 0.5], (2, 1): [1, 0.25]}) == [3, 0.75]


def test_arrays_are_cut_into_shards_of_neighbours():
    x, y = np.arange(14.0).reshape(7, 2), np.arange(7)
    sent = [part.sent() for part in shards.slices(x, y, None, 3)]
    assert [part.y.tolist() for part in sent] == [[0, 1], [2, 3], [4, 5, 6]]
    assert np.array_equal(np.concatenate([part.x for part in sent]), x)
    assert len(shards.slices(x, None, None, 16)) == 7  # no shard is empty


def test_rows_that_were_not_in_memory_stay_on_the_disk_of_the_actor(tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3))
    [part] = shards.slices(np.load(tmp_path / "x.npy", mmap_mode="r"), None, None, 1)
    kept = part.sent().read(tmp_path)
    assert isinstance(kept.x, np.memmap)
    assert np.array_equal(kept.x, np.eye(3))


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"part-{i}.npy", np.full((i + 1, 2), i))
    return tmp_path


def test_each_file_of_a_pattern_or_directory_is_a_shard_in_the_order_of_names(folder):
    expected = [str(folder / f"part-{i}.npy") for i in range(3)]
    for data in (folder, str(folder / "*.npy"), expected):
        assert [shard.path for shard in shards.files(data, {})] == expected


def test_a_path_without_wildcards_may_be_that_of_another_machine(folder):
    assert [shard.path for shard in shards.files("/elsewhere/x.npy", {})] == ["/elsewhere/x.npy"]


def test_one_shard_of_several_is_read_alone(folder, tmp_path):
    for i in range(2):
        np.save(folder / f"x-{i:05}-of-00002.npy", np.full((2, 2), i))
    _, second = shards.files(str(folder / "x-*.npy"), {})
    assert second.read(tmp_path).x.tolist() == [[1, 1], [1, 1]]


def test_a_directory_of_images_is_a_shard(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for part, name in itertools.product("ab", ("cats", "dogs")):
        (tmp_path / part / name).mkdir(parents=True)
        image.fromarray(np.full((2, 2), 7, "uint8")).save(tmp_path / part / name / "1.png")
    found = shards.files(str(tmp_path / "*"), {"labels": "folders"})
    assert [pathlib.Path(shard.path).name for shard in found] == ["a", "b"]
    rows = found[0].read(tmp_path / "a")
    assert (rows.x.shape, rows.y.tolist(), rows.class_names) == ((2, 4), [0, 1], ("cats", "dogs"))


def test_addresses_are_read_by_fsspec(folder, tmp_path):
    pytest.importorskip("fsspec")
    cache = tmp_path / "cache"
    cache.mkdir()
    found = shards.files(f"file://{folder}/part-*.npy", {})
    assert [pathlib.Path(shard.path).name for shard in found] == [f"part-{i}.npy" for i in range(3)]
    assert found[2].read(cache).x.tolist() == [[2, 2]] * 3
    assert (cache / "part-2.npy").exists()
    with raises(shards.InputError, "matches files", f"file://{folder}/none-*", "matches none"):
        shards.files(f"file://{folder}/none-*", {})


@pytest.mark.parametrize(
    ("x", "named"),
    [("x.npy", True), (["a.npy", pathlib.Path("b.npy")], True), ([[1.0, 2.0]], False), (np.eye(2), False), ([], False)],
    ids=["path", "paths", "list", "array", "nothing"],
)
def test_paths_are_told_from_rows(x, named):
    assert shards.is_named(x) == named
