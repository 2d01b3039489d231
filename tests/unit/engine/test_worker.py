"""What a worker sets up before its trial."""

import platform
import subprocess
import sys

import pytest

TOUCH = """
import sys
import psutil, torch
from snnbench.engine.worker import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
process = psutil.Process()
torch.ones(1 << 24)  # 64 MiB
before = process.memory_info().rss
again = torch.ones(1 << 24)
del again
print(before)
print(process.memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
@pytest.mark.parametrize(("how", "kept_mib"), [("keep", (64, 1024)), ("give back", (0, 0))])
def test_freed_memory_stays_with_the_worker(how, kept_mib):
    def resident_mib(code, *arguments):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        return [int(line) / 2**20 for line in done.stdout.split()]

    base, _ = resident_mib(TOUCH.replace("torch.ones(1 << 24)  # 64 MiB", ""), how)
    after, later = resident_mib(TOUCH, how)
    low, high = kept_mib
    assert low - 8 <= after - base <= high + 8
    assert later - after < 8  # the second tensor lay where the first one had
