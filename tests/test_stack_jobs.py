"""A network of stacks, alone or with one for slices without neighbours: the same pixels from every way to run it."""

import dataclasses
import json
import shutil
import types
import zipfile

import numpy as np
import pytest

from kpn_tf.batch import denoise
from kpn_tf.batch.denoising import Denoising
from kpn_tf.batch.process import Task
from kpn_tf.batch.staging import Staging
from kpn_tf.denoiser import Denoiser, Neighbour
from kpn_tf.denoiser.artefact import open_artefact
from kpn_tf.dicom import find_series, read_slice
from kpn_tf.node.network import worker as node_worker
from tests.noisy_torso import noisy_volume, write_torso
from tests.test_denoiser import BLOCKS, BOX, STANDINS, box_mean

SMOOTHED = STANDINS / "smoothed.tflite"


def paired_network(folder, *, alone=BLOCKS, beyond_mm=None):
    """`smoothed`, of three slices, with another network beside it for slices without neighbours."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = Denoiser(alone, threads=1).identity
    shutil.copy(alone, folder / "single.tflite")
    with zipfile.ZipFile(SMOOTHED) as archive:
        [member] = archive.infolist()
        metadata = json.loads(archive.read(member))
    metadata |= {"alone": "single.tflite", "alone_sha256": beside.file_sha256, "alone_beyond_mm": beyond_mm}
    path = folder / "stacks.tflite"
    path.write_bytes(SMOOTHED.read_bytes()[: member.header_offset])
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("metadata.json", json.dumps(metadata))
    return path


def smoothed(middle_hu, *beside):
    """What the stand-in makes of a slice and `(slice, distance)` of the others."""
    return box_mean(middle_hu + sum(mm / 10 * (slice_hu - middle_hu) for slice_hu, mm in beside))


def test_a_slice_without_near_neighbours_gets_the_network_of_single_slices(tmp_path):
    pair = Denoiser(paired_network(tmp_path, beyond_mm=4.0), threads=1)
    single = Denoiser(BLOCKS, threads=1)
    volume_hu = noisy_volume(3).astype("float32")
    middle_hu, other_hu = volume_hu[1], volume_hu[2]
    assert pair.slices == 3
    for none in ((), [None, None], [None, Neighbour(other_hu, 5.0)]):
        np.testing.assert_array_equal(pair(middle_hu, None, none), single(middle_hu))
    near_hu = pair(middle_hu, None, [None, Neighbour(other_hu, 4.0)])
    np.testing.assert_allclose(near_hu, smoothed(middle_hu, (other_hu, 4.0)), atol=1e-2)
    # The network of stacks alone takes single slices too.
    unpaired = Denoiser(dataclasses.replace(open_artefact(tmp_path / "stacks.tflite"), alone=None), threads=1)
    np.testing.assert_allclose(unpaired(middle_hu), smoothed(middle_hu), atol=1e-2)
    # The ends of a volume have a neighbour; slices too far apart have none.
    thin_hu = pair.volume(volume_hu, slice_spacing_mm=1.0)
    np.testing.assert_allclose(thin_hu[0], smoothed(volume_hu[0], (middle_hu, 1.0)), atol=1e-2)
    thick_hu = pair.volume(volume_hu, slice_spacing_mm=5.0)
    np.testing.assert_array_equal(thick_hu[0], single(volume_hu[0]))


def test_half_the_strength_and_padding_hold_for_the_network_of_single_slices_too(tmp_path):
    path = paired_network(tmp_path)
    slice_hu = noisy_volume(1)[0].astype("float32")
    padding = np.zeros(slice_hu.shape, bool)
    padding[:5] = True
    found_hu = Denoiser(path, threads=1, strength=0.5)(slice_hu, padding)
    np.testing.assert_array_equal(found_hu, Denoiser(BLOCKS, threads=1, strength=0.5)(slice_hu, padding))


def test_a_pair_of_which_half_is_missing_or_another_is_refused(tmp_path):
    path = paired_network(tmp_path)
    shutil.copy(BOX, tmp_path / "single.tflite")
    with pytest.raises(
        ValueError, match=r"to be the network of single slices that stacks.tflite was exported"
    ):
        Denoiser(path)
    (tmp_path / "single.tflite").unlink()
    with pytest.raises(
        ValueError, match=r"Expected single.tflite beside .* Received: no such file; copy it there"
    ):
        Denoiser(path)


@pytest.fixture
def archive(tmp_path):
    """Series with neighbours of every kind, and their slices by place: `(folder, {series: paths})`."""
    made = {}
    volume_hu = noisy_volume(6)
    made["gap"] = write_torso(tmp_path / "in" / "gap", volume_hu)
    made["gap"].pop(3).unlink()  # 0 1 2 . 4 5
    made["single"] = write_torso(tmp_path / "in" / "single", volume_hu[:1])
    tilted = {"ImageOrientationPatient": [1, 0, 0, 0, 0.8, 0.6]}
    made["tilted"] = write_torso(tmp_path / "in" / "tilted", volume_hu[:2])
    made["tilted"] += write_torso(
        tmp_path / "in" / "tilted2", volume_hu[2:4], changes=tilted | one_series(made["tilted"][0])
    )
    return tmp_path / "in", made


def one_series(path):
    dataset = read_slice(path).dataset
    return {name: dataset[name].value for name in ("SeriesInstanceUID", "StudyInstanceUID")}


# Of every slice of the archive the places of its neighbours in its list.
BESIDE = {
    "gap": {0: [1], 1: [0, 2], 2: [1], 3: [4], 4: [3]},
    "single": {0: []},
    "tilted": {0: [1], 1: [0], 2: [3], 3: [2]},
}


def pixels(output):
    """Derived slices `(H, W)` in HU by the SOPInstanceUID of their source."""
    found = {}
    for path in output.rglob("*.dcm"):
        ct = read_slice(path)
        found[ct.dataset.SourceImageSequence[0].ReferencedSOPInstanceUID] = ct.slice_hu
    return found


def test_every_way_to_run_it_gives_each_slice_the_neighbours_that_it_has(archive, tmp_path, monkeypatch):
    folder, made = archive
    network = paired_network(tmp_path / "network")
    denoise(folder, tmp_path / "batch", Denoiser(network, threads=1))
    found = pixels(tmp_path / "batch")
    assert len(found) == 5 + 1 + 4
    derived = read_slice(next((tmp_path / "batch").rglob("*.dcm"))).dataset
    told = "network standin-smoothed (standin-blocks where no neighbour is near), file SHA-256 "
    assert told in derived.DerivationDescription
    single = Denoiser(BLOCKS, threads=1)
    for name, beside in BESIDE.items():
        for index, others in beside.items():
            ct = read_slice(made[name][index])
            apart_mm = 3.0 * (0.8 if name == "tilted" and index > 1 else 1.0)  # along the normal
            near = [(read_slice(made[name][other]).slice_hu, apart_mm) for other in others]
            expected = smoothed(ct.slice_hu, *near) if near else single(ct.slice_hu)
            # A whole number of HU is stored.
            np.testing.assert_allclose(found[ct.dataset.SOPInstanceUID], expected, atol=0.51, err_msg=name)

    request = {"weights": str(network), "device": "cpu", "threads": 1, "strengths": [1.0]}
    request |= {"noise_hu": None, "found": None, "input": str(folder), "output": str(tmp_path / "node")}
    networks = types.SimpleNamespace(get=lambda weights, device, threads: Denoiser(weights, threads=threads))
    answer = node_worker._denoise(request, networks, lambda line: None)
    assert answer["ok"]
    of_node = pixels(tmp_path / "node")
    assert of_node.keys() == found.keys()
    assert all(np.array_equal(of_node[name], found[name]) for name in found)


def test_a_worker_of_a_cluster_gives_the_pixels_of_kpn_denoise(archive, tmp_path, monkeypatch):
    worker = pytest.importorskip("kpn_tf.cluster.worker")
    folder, _ = archive
    network = paired_network(tmp_path / "network")
    denoiser = Denoiser(network, threads=1)
    denoise(folder, tmp_path / "batch", denoiser)
    one = types.SimpleNamespace(state=types.SimpleNamespace(nthreads=1))
    monkeypatch.setattr(worker, "get_worker", lambda: one)
    by_key = {}
    for series in find_series(folder)[0]:
        by_key.setdefault(series.key, []).append(series)
    output = tmp_path / "cluster"
    with Staging(output) as staging:
        terms = worker.Terms(
            str(network), denoiser.identity.file_sha256, (1.0,), None, 1, output, staging.folder
        )
        for parts in by_key.values():
            makers = Denoising(denoiser).derived_by(tuple(parts))
            worker.denoise_series(worker.Order(terms, tuple(Task(tuple(parts), by) for by in makers)))
    of_cluster, found = pixels(output), pixels(tmp_path / "batch")
    assert of_cluster.keys() == found.keys()
    assert all(np.array_equal(of_cluster[name], found[name]) for name in found)
