"""TIDIGITS: the isolated digits of the user's own copy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from snnbench import DatasetInfo
from snnbench_speech.recordings import Recording, SpeechDataset

# discs that are mounted without the Rock Ridge extension show names in capitals
_PATH = re.compile(
    r"(?:.*/)?(?P<part>train|test)/(?:man|woman|boy|girl)/[^/]+/(?P<digit>[1-9zo])[ab]\.wav", re.IGNORECASE
)
_DIGITS = "z123456789o"


class Tidigits(SpeechDataset):
    """Isolated digits of 326 speakers: eleven words, spoken twice by each (R. G. Leonard 1984, ICASSP; LDC93S10).

    The Linguistic Data Consortium licenses it, so it is never downloaded: put your copy into ``TIDIGITS`` of the data
    directory, in the folders of the discs, ``.../{train,test}/{man,woman,boy,girl}/<speaker>/<digits><a|b>.wav`` (NIST
    SPHERE, 20 kHz, 16 bit; WAV files converted from those will do). Only files with one digit are used: z (zero) is
    class 0, 1 to 9 are the classes 1 to 9, o (oh) is class 10. The official split is that of the discs; no speaker is
    in both parts. Silence around the word stays. All files below the folder are part of the digest.

    The default 150 steps of 10 ms are meant to hold a digit and the silence around it; this has not been compared with
    the durations on the discs.
    """

    info = DatasetInfo(
        name="tidigits",
        summary="spoken digits of 326 speakers, mel bands as spikes; your own copy of LDC93S10",
        input_shape=(40,),
        n_classes=11,
        licence="LDC user agreement",
        source="https://catalog.ldc.upenn.edu/LDC93S10",
        network="200r",
        n_steps=150,
        dt_ms=10.0,
        form="events",
    )
    folder = "TIDIGITS"
    suffix = ""
    words = ("zero", "1", "2", "3", "4", "5", "6", "7", "8", "9", "oh")
    expected = "files {train,test}/{man,woman,boy,girl}/<speaker>/<digit><a|b>.wav at any depth"
    remedy = f"put your copy of LDC93S10 there, in the folders of the discs; it is licensed at {info.source}"

    def recordings(self, folder: Path) -> Sequence[Recording]:
        """Return the files of one digit."""
        found = []
        for path in sorted(folder.rglob("*")):
            if name := _PATH.fullmatch(path.relative_to(folder).as_posix()):
                tests_in = ("official",) if name["part"].lower() == "test" else ()
                found.append(Recording(path, _DIGITS.index(name["digit"].lower()), tests_in))
        return found
