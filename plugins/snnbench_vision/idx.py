"""MNIST and Fashion-MNIST: IDX files that are found, verified, read, and downloaded on request.

A file may be gzipped or not, whatever its name says; its checksum is that of the unpacked bytes, because the same
content has been gzipped to different files (by Debian, for one).
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import ClassVar

import numpy as np

from snnbench import CorruptDataError, Dataset, DatasetInfo, MissingDataError, Progress, Samples, digest, download

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08
_CHUNK_BYTES = 1 << 16


def parse_idx(content: bytes) -> np.ndarray:
    """Read an array of unsigned bytes in the IDX format.

    The format: two zero bytes, the type of the elements, the number of dimensions, each dimension as a big-endian
    32-bit integer, and the elements, the last dimension running fastest.

    Raises:
        ValueError: ``content`` is not that.
    """
    if len(content) < 4 or content[:3] != bytes((0, 0, _UNSIGNED_BYTE)):
        raise ValueError("not an IDX file of unsigned bytes")
    header = 4 + 4 * content[3]
    shape = [int.from_bytes(content[place : place + 4], "big") for place in range(4, header, 4)]
    if len(content) != header + prod(shape):
        raise ValueError("the header of the IDX file does not fit its length")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def verified(content: bytes, sha256: str, *, name: str, hint: str) -> bytes:
    """Unpack the content of a file if it is gzipped, and verify it.

    Args:
        content: of the file as it is.
        sha256: what the unpacked content must have.
        name: what to call it in an error's message.
        hint: what to do if it is corrupt.

    Raises:
        CorruptDataError: the content is another, or cannot be unpacked.
    """
    unpacked = content
    if content.startswith(_GZIP_MAGIC):
        try:
            unpacked = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            found = hashlib.sha256(content).hexdigest()
            raise CorruptDataError(
                f"{name} cannot be unpacked ({error}): its sha256 as it is is {found}, unpacked it should be {sha256}",
                hint=hint,
            ) from None
    found = hashlib.sha256(unpacked).hexdigest()
    if found != sha256:
        raise CorruptDataError(f"the content of {name} has sha256 {found}, expected {sha256}", hint=hint)
    return unpacked


class IdxDataset(Dataset):
    """Images and labels in four IDX files, in the folder layout that torchvision uses.

    A file is looked for as ``<data_dir>/<folder>/raw/<name>``, there with ``.gz``, and in the same way in the folder of
    the operating system's package.

    Attributes:
        folder: the dataset's folder in the data directory.
        mirror: address that ends in ``/``, from where ``<name>.gz`` is downloaded.
        system_folder: where Debian's package puts the files, or would.
        package: name of Debian's package, if there is one.
        sha256: checksum of each file's unpacked content, by file name.
    """

    folder: ClassVar[str]
    mirror: ClassVar[str]
    system_folder: ClassVar[Path]
    package: ClassVar[str] = ""
    sha256: ClassVar[Mapping[str, str]]

    def digest(self, data_dir: Path) -> str:
        """Return the digest of the files that should be there; ``load`` verifies that they are those.

        Raises:
            MissingDataError: a file is not there.
        """
        self._paths(data_dir)
        return digest(dict(self.sha256))

    def load(self, data_dir: Path, split: str) -> Samples:  # noqa: ARG002
        """Read and verify the files; images are ``[n, 1, height, width]`` uint8.

        Raises:
            MissingDataError: a file is not there.
            CorruptDataError: a file does not have the content it should have.
        """
        arrays = {name: parse_idx(self._content(name, path)) for name, path in self._paths(data_dir).items()}
        return Samples(
            train_x=arrays[TRAIN_IMAGES][:, None],
            train_y=arrays[TRAIN_LABELS].astype(np.int64),
            test_x=arrays[TEST_IMAGES][:, None],
            test_y=arrays[TEST_LABELS].astype(np.int64),
            full_scale=255.0,
        )

    def prepare(self, data_dir: Path, progress: Progress) -> list[Path]:
        """Download what is missing into the data directory, verify every file, and return the four files.

        Files are verified under a temporary name before they get their own, so that a partial download is never read
        and several processes may prepare at once.

        Raises:
            MissingDataError: a file is missing and could not be downloaded.
            CorruptDataError: a file that is there, or that was downloaded, does not have the content it should have.
        """
        paths = []
        for name in self.sha256:
            path = self._find(data_dir, name)
            if path is None:
                path = self._download(data_dir, name, progress)
            else:
                self._content(name, path)
            paths.append(path)
        return paths

    def _places(self, data_dir: Path) -> tuple[Path, Path]:
        return data_dir / self.folder / "raw", self.system_folder

    def _find(self, data_dir: Path, name: str) -> Path | None:
        candidates = (place / file for place in self._places(data_dir) for file in (name, f"{name}.gz"))
        return next((path for path in candidates if path.is_file()), None)

    def _paths(self, data_dir: Path) -> dict[str, Path]:
        found = {name: self._find(data_dir, name) for name in self.sha256}
        missing = [name for name, path in found.items() if path is None]
        if missing:
            raise self._missing(data_dir, f"{self.info.name} lacks {', '.join(missing)}")
        return {name: path for name, path in found.items() if path is not None}

    def _missing(self, data_dir: Path, what: str) -> MissingDataError:
        own, system = self._places(data_dir)
        install = f", or run 'apt install {self.package}'" if self.package else ""
        return MissingDataError(
            f"{what}; looked, with and without .gz, in {own} and {system}",
            hint=f"run 'snnbench prepare {self.info.name}' with network access, or put the files into {own}{install}",
        )

    def _content(self, name: str, path: Path) -> bytes:
        return verified(
            path.read_bytes(),
            self.sha256[name],
            name=str(path),
            hint=f"it was left as it is: replace it, or delete it and run 'snnbench prepare {self.info.name}'",
        )

    def _download(self, data_dir: Path, name: str, progress: Progress) -> Path:
        url = f"{self.mirror}{name}.gz"
        path = self._places(data_dir)[0] / f"{name}.gz"
        hint = f"nothing was kept; try again later, or put the file into {path.parent}"

        def verify(part: Path) -> None:
            verified(part.read_bytes(), self.sha256[name], name=f"what {url} sent", hint=hint)

        try:
            download(url, path, verify=verify, progress=progress, hint=hint)
        except MissingDataError as error:
            raise self._missing(data_dir, f"{name} of {self.info.name}: {error.message}") from None
        return path


class Mnist(IdxDataset):
    """70,000 handwritten digits of 28x28 pixels (LeCun, Cortes & Burges 1998), in the order of the original files."""

    info = DatasetInfo(
        name="mnist",
        summary="handwritten digits of 28x28 pixels",
        input_shape=(1, 28, 28),
        n_classes=10,
        licence="CC BY-SA 3.0",
        source="http://yann.lecun.com/exdb/mnist/",
        network="400-400",
        n_steps=10,
    )
    folder = "MNIST"
    mirror = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    system_folder = Path("/usr/share/datasets/mnist")
    sha256: ClassVar[Mapping[str, str]] = {
        TRAIN_IMAGES: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        TRAIN_LABELS: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        TEST_IMAGES: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        TEST_LABELS: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }


class FashionMnist(IdxDataset):
    """70,000 pictures of clothes of 28x28 pixels (Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747)."""

    info = DatasetInfo(
        name="fashion-mnist",
        summary="pictures of clothes of 28x28 pixels",
        input_shape=(1, 28, 28),
        n_classes=10,
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist",
        network="400-400",
        n_steps=10,
    )
    folder = "FashionMNIST"
    mirror = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    system_folder = Path("/usr/share/datasets/fashion-mnist")
    package = "dataset-fashion-mnist"
    sha256: ClassVar[Mapping[str, str]] = {
        TRAIN_IMAGES: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        TRAIN_LABELS: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        TEST_IMAGES: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        TEST_LABELS: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    }
