"""Files in the datasets' exact formats, written here, through the whole of each dataset; faults; real recordings."""

import io
import tarfile
import wave
from pathlib import Path

import numpy as np
import pytest
from snnbench_speech.fsdd import SPEAKERS, Fsdd
from snnbench_speech.pipeline import SpeechParams, band_values, spikes
from snnbench_speech.recordings import SpeechDataset, read_sound
from snnbench_speech.tidigits import Tidigits

from snnbench import CorruptDataError, EventSamples, MissingDataError
from snnbench.api import Settings

DIGIT_HZ = np.geomspace(300, 3500, 11)
"""A test's digit is a tone of its own."""

SECONDS = 0.2


def sound(label: int, rate_hz: int, amplitude: float = 0.5) -> np.ndarray:
    time_s = np.arange(round(SECONDS * rate_hz)) / rate_hz
    return np.rint(32767 * amplitude * np.sin(2 * np.pi * DIGIT_HZ[label] * time_s)).astype("<i2")


def wav(pcm: np.ndarray, rate_hz: int = 8000, channels: int = 1) -> bytes:
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setparams((channels, pcm.itemsize, rate_hz, len(pcm) // channels, "NONE", ""))
        file.writeframes(pcm.tobytes())
    return content.getvalue()


def sphere(pcm: np.ndarray, coding: str = "pcm") -> bytes:
    """As on the discs: a header of text in 1024 bytes, then the samples."""
    header = (
        "NIST_1A\n   1024\n"
        "database_id -s8 TIDIGITS\nutterance_id -s5 ae_1a\nchannel_count -i 1\n"
        f"sample_count -i {len(pcm)}\nsample_rate -i 20000\nsample_min -i {pcm.min()}\nsample_max -i {pcm.max()}\n"
        "sample_n_bytes -i 2\nsample_byte_format -s2 01\nsample_sig_bits -i 16\n"
        f"sample_coding -s{len(coding)} {coding}\nend_head\n"
    )
    return header.encode().ljust(1024) + pcm.tobytes()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def quiet(name: str, done: int, total: int) -> None:
    pass


@pytest.fixture
def fsdd_dir(tmp_path: Path) -> Path:
    """Every digit by two speakers, one recording to test and one to train."""
    for label in range(10):
        for amplitude, speaker in ((0.5, "george"), (0.05, "theo")):
            for index in (4, 5):
                name = f"{label}_{speaker}_{index}.wav"
                write(tmp_path / "FSDD/recordings" / name, wav(sound(label, 8000, amplitude)))
    return tmp_path


@pytest.fixture
def tidigits_dir(tmp_path: Path) -> Path:
    """Every digit by one speaker to train and one to test, and sequences that are not to be used."""
    for part, group, speaker in (("train", "man", "ae"), ("test", "girl", "dk")):
        folder = tmp_path / "TIDIGITS/tidigits" / part / group / speaker
        for label, digit in enumerate("z123456789o"):
            write(folder / f"{digit}a.wav", sphere(sound(label, 20000)))
        write(folder / "z1b.wav", sphere(sound(3, 20000)))
        write(folder / "3oa.wav", sphere(sound(3, 20000)))
    return tmp_path


def labels_of(samples: EventSamples) -> tuple[list[int], list[int]]:
    return samples.labels[: samples.n_train].tolist(), samples.labels[samples.n_train :].tolist()


def busiest_band(samples: EventSamples, recording: int) -> int:
    own = slice(*samples.offsets[recording : recording + 2])
    return int(np.bincount(samples.index[own]).argmax())


def assert_tones(samples: EventSamples, dataset: SpeechDataset) -> None:
    """Higher tones, higher bands; a tone of full value fires at the largest rate, less a hop at either end."""
    bands = [busiest_band(samples, recording) for recording in range(len(samples.labels))]
    by_label = sorted(set(zip(samples.labels.tolist(), bands, strict=True)))
    assert [label for label, _ in by_label] == list(range(dataset.info.n_classes))
    assert np.all(np.diff([band for _, band in by_label]) > 0)
    for recording, band in enumerate(bands):
        own = slice(*samples.offsets[recording : recording + 2])
        count = np.count_nonzero(samples.index[own] == band)
        assert dataset.params.max_rate_hz * (SECONDS - 0.04) <= count <= dataset.params.max_rate_hz * SECONDS
        assert (np.diff(samples.times_us[own]) >= 0).all()
        assert samples.times_us[own].max() <= SECONDS * 1e6


# --- fsdd ------------------------------------------------------------------------------------------------------------


def test_fsdd_reads_wav_files(fsdd_dir: Path) -> None:
    samples = Fsdd().load(fsdd_dir, "official")
    assert labels_of(samples) == ([*np.repeat(range(10), 2)], [*np.repeat(range(10), 2)])
    assert_tones(samples, Fsdd())


def test_fsdd_leaves_a_speaker_out(fsdd_dir: Path) -> None:
    write(fsdd_dir / "FSDD/recordings/7_theo_12.wav", wav(sound(9, 8000)))
    samples = Fsdd().load(fsdd_dir, "speaker:theo")
    assert labels_of(samples) == ([*np.repeat(range(10), 2)], sorted([*np.repeat(range(10), 2), 7]))
    # by order of names, 7_theo_12 is the first sevens of theo
    odd = samples.n_train + 14
    assert samples.labels[odd] == 7
    assert busiest_band(samples, odd) != busiest_band(samples, odd + 1)
    with pytest.raises(MissingDataError, match=r"no test samples of the split 'speaker:lucas' in"):
        Fsdd().load(fsdd_dir, "speaker:lucas")


def test_fsdd_has_a_split_for_every_speaker() -> None:
    assert Fsdd.info.splits == ("official", *(f"speaker:{name}" for name in SPEAKERS))


def test_parameters_change_units_digest_and_samples(fsdd_dir: Path) -> None:
    plain, coarse = Fsdd(), Fsdd(SpeechParams(n_bands=16))
    assert plain.describe() == Fsdd.info
    assert coarse.describe().input_shape == (16,)
    assert plain.digest(fsdd_dir) != coarse.digest(fsdd_dir)
    assert coarse.load(fsdd_dir, "official").index.max() < 16 <= plain.load(fsdd_dir, "official").index.max()


def test_second_load_reads_the_cache_unless_a_file_changed(fsdd_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Fsdd().digest(fsdd_dir)
    first = Fsdd().load(fsdd_dir, "official")
    with monkeypatch.context() as no_pipeline:
        no_pipeline.delattr("snnbench_speech.recordings.band_values")
        assert Fsdd().load(fsdd_dir, "official").sha256() == first.sha256()
        assert Fsdd().load(fsdd_dir, "speaker:theo").n_train == 20
    write(fsdd_dir / "FSDD/recordings/3_theo_4.wav", wav(sound(3, 8000)[:1200]))
    assert Fsdd().digest(fsdd_dir) != before
    assert Fsdd().load(fsdd_dir, "official").sha256() != first.sha256()


def test_files_of_other_names_are_left_alone(fsdd_dir: Path) -> None:
    first = Fsdd().load(fsdd_dir, "official").sha256()
    write(fsdd_dir / "FSDD/recordings/notes.wav", b"")
    write(fsdd_dir / "FSDD/recordings/10_theo_1.wav", b"")
    assert Fsdd().load(fsdd_dir, "official").sha256() == first


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (wav(sound(3, 8000))[:-100], "is cut off: 3144 bytes of 3244"),
        (wav(sound(3, 8000))[:30], "cannot be read as a sound file"),
        (b"<html>not found</html>", "cannot be read as a sound file: Format not recognised"),
        (b"", "cannot be read as a sound file"),
        (wav(sound(3, 8000)[:0]), "holds no sound"),
        (wav(sound(3, 8000), channels=2), r"has 2 channel\(s\) of PCM_16"),
        (wav(np.zeros(100, np.uint8)), r"has 1 channel\(s\) of PCM_U8"),
    ],
    ids=["truncated", "truncated header", "html", "empty file", "no samples", "stereo", "8 bit"],
)
def test_a_file_that_is_no_recording_is_named(fsdd_dir: Path, content: bytes, says: str) -> None:
    path = write(fsdd_dir / "FSDD/recordings/3_theo_4.wav", content)
    with pytest.raises(CorruptDataError, match=says) as raised:
        Fsdd().load(fsdd_dir, "official")
    assert str(path) in raised.value.message
    assert "left as it is" in raised.value.hint
    assert path.read_bytes() == content


def test_what_is_missing_is_said_in_words(tmp_path: Path) -> None:
    for act in (Fsdd().digest, lambda folder: Fsdd().load(folder, "official")):
        with pytest.raises(MissingDataError, match=r"no .* in .*FSDD/recordings; .*<digit>_<speaker>") as raised:
            act(tmp_path)
        assert Fsdd.info.source in raised.value.hint
    for label in (0, 1, 2, 3, 4, 6, 7, 8):
        write(tmp_path / f"FSDD/recordings/{label}_theo_0.wav", wav(sound(label, 8000)))
    with pytest.raises(MissingDataError, match="has no recordings of 5, 9 in"):
        Fsdd().digest(tmp_path)


# --- fsdd is downloaded ----------------------------------------------------------------------------------------------


def archive_of(fsdd_dir: Path) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as packed:
        packed.add(fsdd_dir / "FSDD/recordings", "free-spoken-digit-dataset-1.0.10/recordings")
    return content.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Contents by address, as downloads find them."""
    there: dict[str, bytes] = {}

    class Downloader:
        def __init__(self, *args: object, **kwargs: object) -> None:
            pass

        def __call__(self, url: str, file: io.BufferedIOBase, _: object) -> None:
            if url not in there:
                raise OSError("no network")
            file.write(there[url])

    monkeypatch.setattr("pooch.HTTPDownloader", Downloader)
    return there


def test_prepare_downloads_the_release(fsdd_dir: Path, tmp_path: Path, server: dict[str, bytes]) -> None:
    url = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
    server[url] = archive_of(fsdd_dir)
    other = tmp_path / "other"
    assert Fsdd().prepare(other, quiet) == [other / "FSDD/recordings"]
    assert Fsdd().load(other, "official").sha256() == Fsdd().load(fsdd_dir, "official").sha256()
    assert [path.name for path in (other / "FSDD").iterdir()] == ["recordings"]
    server.clear()
    Fsdd().prepare(other, quiet)


def test_prepare_keeps_nothing_of_a_bad_download(fsdd_dir: Path, tmp_path: Path, server: dict[str, bytes]) -> None:
    other = tmp_path / "other"
    with pytest.raises(MissingDataError, match="no network") as raised:
        Fsdd().prepare(other, quiet)
    assert "put the recordings of" in raised.value.hint
    whole = archive_of(fsdd_dir)
    for content in (whole[: len(whole) // 2], b"<html>", b""):
        server[Fsdd.archive_url] = content
        with pytest.raises(CorruptDataError):
            Fsdd().prepare(other, quiet)
        assert not list((other / "FSDD").iterdir())


# --- tidigits --------------------------------------------------------------------------------------------------------


def test_tidigits_reads_sphere_files(tidigits_dir: Path) -> None:
    samples = Tidigits().load(tidigits_dir, "official")
    # in order of names: the digits, o, z
    in_order = [*range(1, 10), 10, 0]
    assert labels_of(samples) == (in_order, in_order)
    assert_tones(samples, Tidigits())


def test_tidigits_takes_converted_files_and_capitals(tidigits_dir: Path) -> None:
    expected = Tidigits().load(tidigits_dir, "official")
    for path in list((tidigits_dir / "TIDIGITS").rglob("*.wav")):
        name = path.relative_to(tidigits_dir / "TIDIGITS").as_posix().upper()
        pcm = np.frombuffer(path.read_bytes()[1024:], "<i2")
        write(tidigits_dir / "other/TIDIGITS" / name, wav(pcm, 20000))
    assert Tidigits().load(tidigits_dir / "other", "official").sha256() == expected.sha256()


def test_wav_and_sphere_files_are_read_alike(tmp_path: Path) -> None:
    pcm = sound(5, 20000)
    read = [
        read_sound(write(tmp_path / name, content), hint="")
        for name, content in (("riff.wav", wav(pcm, 20000)), ("sphere.wav", sphere(pcm)))
    ]
    for samples, rate_hz in read:
        np.testing.assert_array_equal(samples, pcm / 32768)
        assert rate_hz == 20000


def test_tidigits_is_never_downloaded(tmp_path: Path, tidigits_dir: Path, server: dict[str, bytes]) -> None:
    assert Tidigits().prepare(tidigits_dir, quiet) == [tidigits_dir / "TIDIGITS"]
    with pytest.raises(MissingDataError, match=r"\{train,test\}/\{man,woman,boy,girl\}") as raised:
        Tidigits().prepare(tmp_path / "empty", quiet)
    assert "your copy of LDC93S10" in raised.value.hint
    (tidigits_dir / "TIDIGITS/tidigits/test/girl/dk/oa.wav").unlink()
    with pytest.raises(MissingDataError, match=r"no test samples of the split 'official' of oh in"):
        Tidigits().load(tidigits_dir, "official")


def test_tidigits_explains_compressed_and_truncated_files(tidigits_dir: Path) -> None:
    path = tidigits_dir / "TIDIGITS/tidigits/test/girl/dk/7a.wav"
    write(path, sphere(sound(7, 20000), "pcm,embedded-shorten-v1.1"))
    with pytest.raises(CorruptDataError, match=r"7a\.wav is compressed with shorten") as raised:
        Tidigits().load(tidigits_dir, "official")
    assert "sph2pipe" in raised.value.hint
    write(path, sphere(sound(7, 20000))[:-1000])
    with pytest.raises(CorruptDataError, match=r"7a\.wav is cut off: 8024 bytes of 9024"):
        Tidigits().load(tidigits_dir, "official")


# --- the real recordings ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_dir() -> Path:
    folder = Settings().data_folder
    if len(Fsdd().recordings(folder / Fsdd.folder)) != 3000:
        pytest.skip(f"the 3000 recordings of FSDD are not in {folder / Fsdd.folder}")
    return folder


def test_real_fsdd(real_dir: Path) -> None:
    dataset = Fsdd()
    samples = dataset.load(real_dir, "official")
    train, test = labels_of(samples)
    assert np.bincount(train).tolist() == [270] * 10
    assert np.bincount(test).tolist() == [30] * 10
    counts = np.diff(samples.offsets)
    assert counts.min() >= 200
    assert 900 <= np.median(counts) <= 1100
    assert counts.max() <= 3500
    info = dataset.info
    late = samples.times_us >= info.n_steps * info.dt_ms * 1000
    assert 0 < late.mean() < 1e-3
    assert dataset.digest(real_dir) == Fsdd().digest(real_dir)


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_real_fsdd_with_a_speaker_left_out(real_dir: Path, speaker: str) -> None:
    samples = Fsdd().load(real_dir, f"speaker:{speaker}")
    train, test = labels_of(samples)
    assert np.bincount(train).tolist() == [250] * 10
    assert np.bincount(test).tolist() == [50] * 10


def test_real_recordings_last_as_long_as_their_spikes(real_dir: Path) -> None:
    params = SpeechParams()
    for recording in Fsdd().recordings(real_dir / Fsdd.folder)[::150]:
        with wave.open(str(recording.path)) as file:
            duration_us = 1e6 * file.getnframes() / file.getframerate()
        times_us, _ = spikes(band_values(*read_sound(recording.path, hint=""), params), params.max_rate_hz)
        # silence was cut off at the ends, so the word goes on nearly to the last hop
        assert duration_us - 100e3 <= times_us.max() <= duration_us
