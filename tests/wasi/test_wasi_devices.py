"""The devices under `/dev`: what they give and take, and that they travel open."""

from __future__ import annotations

import pytest

from agents.errors import BadSnapshot
from agents.wasi.abi import EISDIR, ENOENT, ENOTDIR, EPERM, EROFS, ESPIPE
from agents.wasi.devices import DEVICE_NAMES, DeviceFile, decode_device

from .rig import DIRECTORY, READ_WRITE, Virtual

CREAT = 1
CHARACTER_DEVICE = 2


def test_what_they_give_and_take() -> None:
    guest = Virtual()
    given = {}
    for name in DEVICE_NAMES:
        error, fd = guest.open(f"dev/{name}", CREAT, READ_WRITE)
        assert error == 0
        assert guest.write(fd, b"12345") == (0, 5)
        guest = guest.hop()
        given[name] = guest.read(fd, 300)[1]
        assert guest.raw("fd_seek", fd, 0, 0, 64) == ESPIPE
    assert given["null"] == b""
    assert given["zero"] == bytes(300)
    assert given["random"] == given["urandom"] == guest.station.random(300)
    assert any(given["random"])


def test_nothing_else_is_there_and_nothing_changes() -> None:
    guest = Virtual()
    assert set(guest.listing("dev")) == {b".", b"..", *(name.encode() for name in DEVICE_NAMES)}
    assert guest.stat("dev/null")[1][0] == CHARACTER_DEVICE
    assert guest.open("dev/sda")[0] == ENOENT
    assert guest.open("dev/null/x")[0] == ENOTDIR
    assert guest.open("dev/null/")[0] == ENOTDIR
    assert guest.open("dev/../x/../..")[0] == EPERM
    assert guest.open("dev", 0, READ_WRITE)[0] == EISDIR
    assert guest.mkdir("dev/new") == ENOENT
    assert guest.unlink("dev/null") == EROFS
    assert guest.rmdir("dev") == EROFS
    assert b"dev" not in guest.listing()


def test_the_open_folder_travels() -> None:
    guest = Virtual()
    _, folder = guest.open("dev", 2, DIRECTORY)
    guest = guest.hop()
    assert guest.read(guest.open("zero", fd=folder)[1], 3) == (0, bytes(3))


def test_a_read_is_short_rather_than_large() -> None:
    guest = Virtual()
    _, fd = guest.open("dev/zero")
    guest.put(32, (65536).to_bytes(4, "little") + (200_000).to_bytes(4, "little"))
    assert guest.raw("fd_read", fd, 32, 1, 16) == 0
    assert guest.number(16) == 65536


@pytest.mark.parametrize("value", [["device"], ["device", "sda"], ["device", 1], ["device", "null", 1]])
def test_a_snapshot_with_another_device_is_refused(value: list[object]) -> None:
    with pytest.raises(BadSnapshot):
        decode_device(value)


def test_encoding() -> None:
    for name in DEVICE_NAMES:
        assert decode_device(DeviceFile(name).encode()).name == name
