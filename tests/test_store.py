"""A prepared store gives the slices that memory would, survives kills, holds nobody's name, and is whole or refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kpn_tf.dose.series_noise import SeriesNoise, quiet_slabs
from kpn_tf.dose.simulation import SPECTRA
from kpn_tf.locks import hold
from kpn_tf.training.data import slices
from kpn_tf.training.data.folders import training_folder, volumes
from kpn_tf.training.data.store import StoreError, StoreWriter, open_store, scratch
from kpn_tf.training.data.store.manifest import read_manifest, write_manifest
from kpn_tf.training.pairs import SimulatedPairs, TrainingSlice, training_slices
from tests.command import kpn
from tests.noisy_torso import noisy_volume, write_torso

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "docs" / "train.md"
NOISE = SeriesNoise(9.0, SPECTRA["soft"])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three series of two patients, of which one has to be averaged."""
    folder = tmp_path_factory.mktemp("data")
    write_torso(folder / "a", noisy_volume(4, noise_hu=20.0))
    write_torso(folder / "b", noisy_volume(2))
    write_torso(folder / "c", noisy_volume(3), patient_id="ID-4711")
    return folder


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    """A finished store of them."""
    folder = tmp_path_factory.mktemp("stores") / "store"
    assert kpn("prepare", data, folder) == 0
    return folder


def generator():
    return np.random.default_rng(0).spawn(2)[1]


def batches(drawn_from):
    pairs = SimulatedPairs(drawn_from, batch_size=5, steps=4, patch=32, seed=3)
    return [image for index in range(4) for image in pairs[index]]


def write_small(folder, count=3, shape=(37, 41)):
    """A store of one series, of random values; returns its slices."""
    rng = np.random.default_rng(5)
    made = [
        TrainingSlice(
            rng.normal(40, 20, shape).astype("float32"), rng.normal(size=(3, *shape)).astype("float16"), 9.0
        )
        for _ in range(count)
    ]
    with StoreWriter(folder, "origin") as writer:
        writer.add(
            made, count, identity="1.2.3", patient="P", pixel_mm=0.8, spectrum=NOISE.spectrum, shape=shape
        )
        writer.finish()
    return made


def test_batches_from_memory_from_dicom_and_from_a_store_are_equal_to_the_last_bit(data, store, tmp_path):
    rng, in_memory = generator(), []
    for _, volume_hu, pixel_mm, step_mm in volumes(data, pytest.fail):
        slabs, noises = quiet_slabs(volume_hu, pixel_mm, step_mm)
        weight = 1 / (np.median([noise.std_hu for noise in noises]) * np.sqrt(len(slabs)))
        in_memory += training_slices(slabs, pixel_mm, noises, rng, weight=weight)
    from_dicom = training_folder(data, 32, generator(), scratch=tmp_path / "scratch", note=pytest.fail)
    from_store = training_folder(store, 32, None, scratch=None, note=pytest.fail)
    assert len(in_memory) == len(from_dicom) == len(from_store) == 6
    assert {len(one.normal_hu[0:96, 0:128]) for one in from_store} == {96}
    for memory, dicom, stored in zip(
        batches(in_memory), batches(from_dicom), batches(from_store), strict=True
    ):
        np.testing.assert_array_equal(memory, dicom)
        np.testing.assert_array_equal(memory, stored)
    described = [
        SimulatedPairs(one, batch_size=5, steps=4, patch=32).describe() for one in (from_dicom, from_store)
    ]
    assert described[0] == described[1]


def test_every_value_of_a_store_is_the_one_that_was_written(tmp_path):
    made = write_small(tmp_path / "store")
    stored = open_store(tmp_path / "store")
    for one, other in zip(made, stored, strict=True):
        whole = slice(0, 37), slice(0, 41)
        np.testing.assert_array_equal(one.normal_hu, other.normal_hu[whole])
        np.testing.assert_array_equal(one.noise, [field[whole] for field in other.noise])
        np.testing.assert_array_equal(one.normal_hu[5:9, 30:41], other.normal_hu[5:9, 30:41])
    array = np.load(tmp_path / "store" / "000000.npy", mmap_mode="r")
    np.testing.assert_array_equal(array["normal_hu"][2], made[2].normal_hu)


def test_a_store_with_one_noise_level_for_a_series_is_read_as_one_with_a_level_for_each_slice(tmp_path):
    write_small(tmp_path / "store")
    series = read_manifest(tmp_path / "store")
    assert series[0]["noise_std_hu"] == [9.0, 9.0, 9.0]
    write_manifest(tmp_path / "store", [{**series[0], "noise_std_hu": 8.0}])
    assert [one.noise_std_hu for one in open_store(tmp_path / "store")] == [8.0, 8.0, 8.0]


def test_preparing_goes_on_where_a_kill_stopped_it_and_ends_in_the_same_store(data, store, tmp_path, capfd):
    cut = tmp_path / "cut"
    command = [sys.executable, "-m", "kpn_tf.cli", "prepare", data, cut]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (cut / "000000.json").exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = (cut / "000000.npy").stat()
    assert not (cut / "kpn_store.json").exists()
    with pytest.raises(StoreError, match=r"Expected a finished store. Received: .*, which kpn prepare"):
        open_store(cut)
    assert kpn("prepare", data, cut) == 0
    assert "in the store already" in capfd.readouterr().out
    assert (cut / "000000.npy").stat().st_mtime_ns == first.st_mtime_ns
    assert {path.name for path in cut.iterdir()} == {path.name for path in store.iterdir()}
    for path in [*store.glob("*.npy"), store / "kpn_store.json"]:
        assert path.read_bytes() == (cut / path.name).read_bytes()


def test_drawing_from_a_store_takes_memory_for_a_batch_and_not_for_the_store(tmp_path):
    shape, count = (512, 512), 90
    one = TrainingSlice(np.full(shape, 40, "float32"), np.ones((3, *shape), "float16"), 9.0)
    with StoreWriter(tmp_path / "store", "origin") as writer:
        writer.add(
            [one] * count,
            count,
            identity="1",
            patient="P",
            pixel_mm=0.8,
            spectrum=NOISE.spectrum,
            shape=shape,
        )
        writer.finish()
    code = (
        "import resource, sys\n"
        "from kpn_tf.training.pairs import SimulatedPairs\n"
        "from kpn_tf.training.data.store import open_store\n"
        "stored = open_store(sys.argv[1])\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "pairs = SimulatedPairs(stored, batch_size=8, steps=100)\n"
        "pairs[0]\n"
        "before, drawn = peak(), set()\n"
        "get = type(stored).__getitem__\n"
        "type(stored).__getitem__ = lambda self, index: drawn.add(index) or get(self, index)\n"
        "for index in range(40):\n"
        "    pairs[index]\n"
        "print(len(drawn), (peak() - before) / 1024)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "store"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    drawn, grown_mb = run.stdout.split()
    size_mb = (tmp_path / "store" / "000000.npy").stat().st_size / 2**20
    # Nearly every slice has been drawn from, and the bound is a twentieth of what they take.
    assert int(drawn) > 0.9 * count
    assert float(grown_mb) < 10 < size_mb / 20


def test_noise_is_made_for_few_slices_ahead(monkeypatch):
    begun = []
    monkeypatch.setattr(slices, "noise_like", lambda hu, *_: begun.append(1) or np.zeros_like(hu))
    made = slices.one_by_one(np.zeros((40, 9, 7)), 0.8, NOISE, np.random.default_rng(1))
    for taken, _ in enumerate(made, start=1):
        assert len(begun) <= 3 * (taken + os.cpu_count())
    assert len(begun) == 3 * 40


def test_a_store_holds_nobodys_name_and_forgets_how_names_were_hashed(data, store, tmp_path):
    kept = b"".join(path.read_bytes() for path in store.iterdir() if path.suffix == ".json")
    uids = [path.name for path in store.iterdir()]
    for secret in ("Secret", "ID-0815", "ID-4711", "salt", str(data), "1.2.826"):
        assert secret.encode() not in kept + str(uids).encode(), secret
    patients = [json.loads((store / f"00000{n}.json").read_text())["patient"] for n in range(3)]
    assert len(set(patients)) == 2
    assert kpn("prepare", data / "a", tmp_path / "other") == 0
    assert json.loads((tmp_path / "other" / "000000.json").read_text())["patient"] not in patients


def test_a_series_in_two_inputs_is_taken_once(data, tmp_path, capfd):
    assert kpn("prepare", data / "b", data / "c", data / "b", tmp_path / "store") == 0
    out, err = capfd.readouterr()
    assert "is there a second time" in err
    assert out.splitlines()[-1].startswith("5 slices, 0.00 GB: ")


def damage_manifest(folder, **changes):
    path = folder / "kpn_store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda folder: (folder / "kpn_store.json").write_text("{"), "is damaged: it is no JSON object"),
        (lambda folder: damage_manifest(folder, series=[]), "is damaged: its checksum is another"),
        (lambda folder: damage_manifest(folder, version=2), "a store of version 1. Received: .*of version 2"),
        (lambda folder: os.truncate(folder / "000000.npy", 999), "is damaged: it has 999 bytes instead of"),
        (lambda folder: (folder / "000000.npy").unlink(), "is damaged: it is missing"),
        (lambda folder: (folder / "slice.dcm").touch(), "a store alone. Received: .*slice.dcm beside it"),
        (
            lambda folder: (folder / "kpn_store.json").rename(folder / "kpn_store_unfinished.json"),
            "Expected a finished store",
        ),
    ],
)
def test_a_store_that_is_not_as_it_was_written_is_refused_in_one_sentence(
    data, tmp_path, capfd, harm, complaint
):
    write_small(tmp_path / "store")
    harm(tmp_path / "store")
    with pytest.raises(StoreError, match=complaint):
        open_store(tmp_path / "store")
    assert kpn("train", tmp_path / "store", data / "c", tmp_path / "run") == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("kpn: Expected a ")
    assert not (tmp_path / "run").exists()


def test_a_store_that_is_cut_off_while_it_is_drawn_from_is_an_error_and_not_noise(tmp_path):
    write_small(tmp_path / "store")
    stored = open_store(tmp_path / "store")
    os.truncate(tmp_path / "store" / "000000.npy", 999)
    with pytest.raises(StoreError, match="is damaged: it ends early"):
        SimulatedPairs(stored, batch_size=2, steps=1, patch=32)[0]


def test_a_folder_with_a_store_in_it_is_no_folder_of_dicom(data, tmp_path, capfd):
    write_torso(tmp_path / "mixed" / "ct", noisy_volume(2))
    write_small(tmp_path / "mixed" / "store")
    for words in (
        ("prepare", tmp_path / "mixed", tmp_path / "new"),
        ("train", tmp_path / "mixed", data / "c", tmp_path / "run"),
        ("train", data / "c", tmp_path / "mixed", tmp_path / "run"),
    ):
        assert kpn(*words) == 1
        assert f"Received: a store, {tmp_path / 'mixed' / 'store'}; keep the two" in capfd.readouterr().err


def test_what_no_store_can_be_written_to_is_refused_and_left_alone(data, store, tmp_path, capfd):
    assert kpn("prepare", data / "b", store) == 1
    assert "a finished store; train with it, or choose another folder" in capfd.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("words")
    assert kpn("prepare", data / "b", tmp_path / "full") == 1
    assert "Expected a new or empty folder for the store" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["letter.txt"]
    with StoreWriter(tmp_path / "begun", "another seed"):
        assert kpn("prepare", data / "b", tmp_path / "begun") == 1
        assert "which another kpn prepare writes; wait for it" in capfd.readouterr().err
    assert kpn("prepare", data / "b", tmp_path / "begun", "--seed", "4") == 1
    assert "Expected the seed that" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("absent", "store"), "expected a CT file or a folder, received absent, which does not exist"),
        (("ct", "ct/store"), "expected a store outside of what it is made from, received ct/store in ct"),
        (("ct", "ct/file"), "expected a store outside of what it is made from"),
        (("ct", "file"), "expected a folder for the store, received file, which is a file"),
        (("ct", "store", "--seed", "-1"), "argument --seed: expected a whole number from 0 on"),
        (("ct",), "the following arguments are required: STORE"),
    ],
)
def test_a_wrong_call_is_status_two_and_says_why(tmp_path, monkeypatch, capfd, words, complaint):
    monkeypatch.chdir(tmp_path)
    Path("ct").mkdir()
    Path("file").touch()
    assert kpn("prepare", *words) == 2
    assert complaint in capfd.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct", "file"]


def test_without_a_usable_series_no_store_is_made(tmp_path, capfd):
    write_torso(tmp_path / "drawn", noisy_volume(noise_hu=0.0))
    assert kpn("prepare", tmp_path / "drawn", tmp_path / "store") == 1
    assert capfd.readouterr().err.splitlines()[-1] == (
        "kpn: Expected a normal-dose series that can be used. Received: none; no store is made"
    )
    assert not (tmp_path / "store").exists()


def test_a_full_disk_leaves_whole_series_and_no_halves(tmp_path):
    def full():
        yield TrainingSlice(np.zeros((37, 41), "float32"), np.zeros((3, 37, 41), "float16"), 9.0)
        raise OSError(28, "No space left on device")

    write = {"patient": "P", "pixel_mm": 0.8, "spectrum": NOISE.spectrum, "shape": (37, 41)}
    with StoreWriter(tmp_path / "store", "origin") as writer, pytest.raises(OSError, match="No space left"):
        writer.add(full(), 2, identity="1.2.3", **write)
    assert list((tmp_path / "store").glob("*.npy")) == list((tmp_path / "store").glob("*.part")) == []


def test_slices_smaller_than_a_patch_are_left_out_by_name(tmp_path):
    made = write_small(tmp_path / "store")
    with StoreWriter(tmp_path / "both", "origin") as writer:
        for name, side in (("small", 30), ("large", 37)):
            shape = (side, 41)
            cut = [TrainingSlice(s.normal_hu[:side], s.noise[:, :side], 9.0) for s in made]
            writer.add(cut, 3, identity=name, patient="P", pixel_mm=0.8, spectrum=NOISE.spectrum, shape=shape)
        writer.finish()
    lines = []
    kept = open_store(tmp_path / "both").of_side(32, lambda line, failure: lines.append(line))
    assert (len(kept), kept.smallest_side) == (3, 37)
    np.testing.assert_array_equal(
        kept[2].normal_hu[0:37, 0:41], open_store(tmp_path / "store")[2].normal_hu[0:37, 0:41]
    )
    assert lines == [
        f"{tmp_path / 'both' / '000000.npy'}: its slices are smaller than a patch of 32 x 32 pixels"
    ]


def test_a_killed_trainings_slices_are_removed_and_a_living_ones_stay(tmp_path):
    dead, alive = tmp_path / "run" / "slices-dead", tmp_path / "run" / "slices-alive"
    for folder in (dead, alive):
        folder.mkdir(parents=True)
        (folder / "in_use").touch()
    with hold(alive / "in_use"), scratch(tmp_path / "run") as place:
        write_small(place)
        assert {path.name for path in (tmp_path / "run").iterdir()} == {alive.name, place.parent.name}
    assert [path.name for path in (tmp_path / "run").iterdir()] == [alive.name]


def test_preparing_needs_no_tensorflow(data, tmp_path):
    code = (
        "import sys\nfrom kpn_tf import cli\ncli.main(sys.argv[1:])\n"
        "print({'keras', 'tensorflow'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "prepare", data / "b", tmp_path / "store"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines()[-1] == "set()"
