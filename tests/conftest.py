"""What tests share: a plugin file with a tiny dataset and rules that fail as told."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("snnbench", deadline=None)
hypothesis.settings.load_profile("snnbench")

# What a shell puts into the background is deaf to Ctrl-C, and so are its children; some tests are about Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_plugin() -> Path:
    return Path(__file__).parent / "tiny_plugin.py"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB of which a file, ``filler``, leaves 16 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True
        )
    except FileNotFoundError:
        pytest.skip("there is no 'mount' here")
    if mount.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mount.stderr.strip()}")
    (disk / "filler").write_bytes(bytes((1 << 20) - (16 << 10)))
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)
