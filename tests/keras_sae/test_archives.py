import struct
import zipfile

import numpy as np
import pytest

from keras_sae import archives
from keras_sae.archives import reading
from keras_sae.errors import InputError


def read(path):
    with reading(path, "arrays", "Write them again."):
        return archives.read_arrays(path)


def header(shape, dtype="<f8", body=b""):
    """A .npy file whose header says what it likes."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def packed(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "arrays.npz"


def test_arrays_come_back_in_their_order(path):
    arrays = {"b": np.arange(6.0).reshape(2, 3), "a": np.array(5), "empty": np.zeros((0, 3), "int8")}
    for save in (np.savez, np.savez_compressed):
        save(path, **arrays)
        found = read(path)
        assert list(found) == ["b", "a", "empty"]
        for name, array in arrays.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
            np.testing.assert_array_equal(found[name], array)
    np.savez(path, fortran=np.asfortranarray(arrays["b"]))
    np.testing.assert_array_equal(read(path)["fortran"], arrays["b"])


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (header((10**12,)), "'x.npy' in it declares 8,000,000,000,000 bytes and holds 0"),
        (header((10**400,), "|u1"), "declares 1"),
        (header((2,), body=bytes(24)), "declares 16 bytes and holds 24"),
        (header((-1, -3), body=bytes(24)), "declares 24 bytes and holds 24"),
        (header((2, -1), "|V0"), "declares"),
        (header((1,), "|O", b"cos\nsystem\n(S'true'\ntR."), "Python objects, which are not read (allow_pickle=False)"),
        (header("(" * 4000 + ")" * 4000), "which cannot be read: "),
        (header("__import__('os').getpid()"), "which cannot be read: "),
        (b"\x93NUMPY\x07\x00", "which cannot be read: "),
        (b"\x93NUMPY\x03\x00" + bytes(100), "is an array of version (3, 0)"),
        (b"no array", "which cannot be read: "),
        (b"", "which cannot be read: "),
    ],
)
def test_an_array_is_as_large_as_its_header_says(path, content, cause):
    packed(path, [("x.npy", content)])
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"Expected arrays. Received: {path}, which cannot be read: ")
    assert str(caught.value).endswith(" Write them again.")
    assert cause in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/../../x", "..\\x", "C:\\x", "C:x"])
def test_names_that_lie_outside(path, name):
    packed(path, [("a.npy", header((0,))), (name, header((0,)))])
    with pytest.raises(InputError) as caught:
        read(path)
    assert f"it holds the name {name!r}, which lies outside of it" in str(caught.value)


def test_an_archive_may_not_unpack_to_far_more(path, monkeypatch):
    array = header((10**5,), "|u1", bytes(10**5))
    packed(path, [("x.npy", array)], zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 500
    assert read(path)["x"].shape == (10**5,)
    monkeypatch.setattr(archives, "PLAIN_BYTES", 10**4)
    with pytest.raises(InputError, match=f"it has {path.stat().st_size} bytes and would unpack to 100,128"):
        read(path)


def test_members_that_share_their_bytes(path):
    """Many entries of the directory that point to the same data unpack to more than a ratio of one of them says."""
    packed(path, [("x.npy", header((1000,), "|u1", bytes(1000)))])
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    entry = content[start : content.index(b"PK\x05\x06")]
    entries = [entry.replace(b"x.npy", f"{letter}.npy".encode()) for letter in "xyz"]
    directory = b"".join(entries)
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 3, 3, len(directory), start, 0)
    path.write_bytes(content[:start] + directory + end)
    with pytest.raises(InputError, match="it declares more than it holds"):
        read(path)


def test_a_name_twice_and_unusual_packing(path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        packed(path, [("x.npy", header((0,)))] * 2)
    with pytest.raises(InputError, match="it holds a name twice"):
        read(path)
    packed(path, [("x.npy", header((0,)))], zipfile.ZIP_LZMA)
    with pytest.raises(InputError, match=r"'x.npy' is packed in a way that nothing here writes"):
        read(path)


def test_one_other_byte(path):
    np.savez(path, x=np.arange(100.0))
    content = bytearray(path.read_bytes())
    content[content.index(np.float64(50).tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"'x.npy' in it is damaged: its checksum is another"):
        read(path)


def test_only_the_reading_is_reported():
    cause = r"^Expected a thing. Received: a, which cannot be read: KeyError\.$"
    with pytest.raises(InputError, match=cause), reading("a", "a thing"):
        raise KeyError
    with pytest.raises(InputError, match=r"^as it is$"), reading("a", "a thing"):
        raise InputError("as it is")
    with pytest.raises(KeyboardInterrupt), reading("a", "a thing"):
        raise KeyboardInterrupt
    with pytest.raises(InputError) as caught, reading("a", "a thing", "Cure."):
        raise ValueError("line\n" * 1000)
    assert str(caught.value).endswith("line line line line  ... Cure.")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_file_that_is_not_there(path):
    with pytest.raises(InputError, match="No such file"):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="not a zip file"):
        read(path)
