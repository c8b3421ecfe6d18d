"""Small files that unpack into more than there is are refused before they are unpacked."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from palimpsest.simulator.world import machine
from palimpsest.simulator.world.data.archives import read_npz
from palimpsest.simulator.world.data.pictures import read_folder
from palimpsest.simulator.world.errors import DataError


def test_an_archive_of_very_much_nothing_is_refused(tmp_path: Path) -> None:
    """Of three quarters of this machine's memory, says its directory, which is all that is read of it."""
    path = tmp_path / "bomb.npz"
    np.savez(path, x=np.zeros(3, np.uint8), y=np.zeros(3))
    assert read_npz(path)["x"].tolist() == [0, 0, 0]
    _claim(path, "x.npy", 3 * machine.memory() // 4)
    with pytest.raises(DataError, match=r"takes .*B unpacked, most of it the array 'x'"):
        read_npz(path)


def _claim(path: Path, name: str, size: int) -> None:
    """Have the archive's directory say that a part is so large."""
    with zipfile.ZipFile(path, "a") as archive:
        part = archive.getinfo(name)
        part.file_size = size
        archive._didModify = True  # type: ignore[attr-defined]  # the directory is written anew when it is closed


def test_an_image_of_too_many_pixels_is_refused(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "class").mkdir()
    Image.new("1", (13_000, 13_000)).save(tmp_path / "class" / "large.png")
    with pytest.raises(DataError, match="13,000 x 13,000 pixels, and 25,000,000 are the most"):
        read_folder(tmp_path)
    assert not recwarn.list
