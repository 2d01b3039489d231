"""The worker: a fresh interpreter that runs one trial, given as JSON on standard input.

It writes its result into the store itself, and says one JSON line an epoch and one at the end on standard output, so
that the parent knows that what it finds in the store is this run's. Standard input stays
open as long as the parent lives; when it ends, the worker ends too.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping

from snnbench.engine.job import Job
from snnbench.engine.memory import keep_freed_memory


def main() -> None:
    """Run the job on standard input."""
    keep_freed_memory()
    job = Job.from_json(json.loads(sys.stdin.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # What a rule prints belongs into the log, which is standard error; the real standard output is for events.
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> None:
        events.write(json.dumps({"epoch": epoch, "metrics": metrics}) + "\n")

    job.run(on_epoch, own_process=True)
    events.write(json.dumps({"stored": True}) + "\n")


def _end_with_parent() -> None:
    while sys.stdin.read(1):
        pass
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # what the rule has started, too
    os._exit(1)


if __name__ == "__main__":
    main()
