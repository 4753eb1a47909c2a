"""One strength language: shares of a correction, several at once, or the share that leaves a wanted noise."""

import dataclasses
import json
import shutil

import numpy as np
import pydicom
import pytest

from kpn_tf import batch
from kpn_tf.batch import denoising, pipeline
from kpn_tf.cli.denoisers import open_denoisers
from kpn_tf.denoiser import Denoiser, artefact
from kpn_tf.denoiser.strength import AtStrength, Remembering, blended
from kpn_tf.dicom import DerivedBy
from kpn_tf.dicom.writing.derived_by import derived_series_number
from kpn_tf.metrics import flat_regions, regional_noise_std_hu
from kpn_tf.metrics.noise_of_blend import NoiseOfBlend
from kpn_tf.node.network import worker
from kpn_tf.node.rule import Rule
from kpn_tf.node.tables import MistakesError, built
from kpn_tf.trained import DEFAULT_WEIGHTS
from tests.command import BOX, kpn
from tests.ct_series import write_ct_series
from tests.node_peers import Node, Recorder, send, until
from tests.noisy_torso import PIXEL_MM, noisy_volume, write_torso

STRENGTHS = (0.4, 0.7, 1.0)


@pytest.fixture(scope="module")
def box():
    return Denoiser(BOX, threads=1)


@pytest.fixture
def installation(tmp_path_factory, monkeypatch):
    """An installation whose default weights, and `edge`, are the 7x7 mean."""
    folder = tmp_path_factory.mktemp("weights")
    for name in {DEFAULT_WEIGHTS, "edge"}:
        shutil.copy(BOX, folder / f"{name}.tflite")
    monkeypatch.setattr(artefact, "WEIGHTS_FOLDER", folder)


def slices_of(folder):
    """Datasets of a folder by file name."""
    return {path.name: pydicom.dcmread(path) for path in sorted(folder.iterdir())}


def hu(dataset):
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def test_several_strengths_are_the_series_of_each_at_the_cost_of_one(tmp_path, box, monkeypatch):
    write_ct_series(tmp_path / "in", slices=3)
    for strength in STRENGTHS:
        batch.denoise(tmp_path / "in", tmp_path / "each", Denoiser(BOX, threads=1, strength=strength))
    calls = []
    for name in ("read_slice", "regional_noise_std_hu"):
        original = getattr(pipeline, name)
        monkeypatch.setattr(
            pipeline, name, lambda *words, _of=original, _name=name: (calls.append(_name), _of(*words))[1]
        )
    network = box._network
    monkeypatch.setattr(box, "_network", lambda *words: (calls.append("network"), network(*words))[1])
    report = batch.denoise(tmp_path / "in", tmp_path / "once", box, strengths=STRENGTHS)
    assert report.ok
    assert [series.strength for series in report.series] == list(STRENGTHS)
    assert {name: calls.count(name) for name in calls} == {
        "read_slice": 3,
        "regional_noise_std_hu": 3,
        "network": 3,
    }
    contents = {
        name: {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).glob("*/*")}
        for name in ("each", "once")
    }
    assert len(contents["once"]) == 9
    assert contents["once"] == contents["each"]


def test_a_rerun_makes_the_strengths_and_the_slices_that_are_missing(tmp_path, box):
    write_ct_series(tmp_path / "in", slices=3)
    first = batch.denoise(tmp_path / "in", tmp_path / "out", box, strengths=(0.4, 1.0))
    uids = {series.strength: series.derived_uid for series in first.series}
    next((tmp_path / "out" / uids[0.4]).iterdir()).unlink()
    again = batch.denoise(tmp_path / "in", tmp_path / "out", box, strengths=STRENGTHS)
    assert {(one.strength, one.outcome, one.written, one.kept) for one in again.series} == {
        (0.4, "written", 1, 2),
        (0.7, "written", 3, 0),
        (1.0, "exists", 0, 0),
    }


def test_strengths_of_a_series_sort_by_number_and_by_description(tmp_path, box):
    write_ct_series(tmp_path / "in", slices=1)
    strengths = (1.0, 0.05, 0.4, 0.7)
    report = batch.denoise(tmp_path / "in", tmp_path / "out", box, strengths=strengths)
    headers = [next(iter(slices_of(tmp_path / "out" / one.derived_uid).values())) for one in report.series]
    for keyword in ("SeriesNumber", "SeriesDescription"):
        order = sorted(range(4), key=lambda i, keyword=keyword: headers[i][keyword].value)
        assert [strengths[i] for i in order] == sorted(strengths)
    numbers = [int(header.SeriesNumber) for header in headers]
    assert numbers[0] - numbers[2] == 60 * 10_000


def test_found_strengths_have_numbers_of_their_own_and_uids_of_what_was_wanted():
    by = DerivedBy("edge", "1", "ab", 0.5, wanted_noise_hu=12.0, measured_sha256="cd")
    stronger = dataclasses.replace(by, strength=0.6)
    assert by.uid_words == stronger.uid_words
    assert derived_series_number(3, stronger) - derived_series_number(3, by) == 10 * 10_000
    others = [
        dataclasses.replace(by, **changes)
        for changes in ({"wanted_noise_hu": 11.0}, {"measured_sha256": "ce"}, {"wanted_noise_hu": None})
    ]
    assert len({by.uid_words, *(other.uid_words for other in others)}) == 4


def test_the_commands_tell_each_strength(tmp_path, installation, capfd):
    write_ct_series(tmp_path / "in", slices=2)
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", "--strength", "0.4", "1") == 0
    out = capfd.readouterr().out.splitlines()
    assert ", strength 0.4, noise " in out[0]
    assert "strength" not in out[1]
    assert out[2].startswith("2 series, 4 slices in ")
    assert kpn("denoise", tmp_path / "in", tmp_path / "more", "--strength", "0.25", "0.5", "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert [series["strength"] for series in document["series"]] == [0.25, 0.5]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--strength", "1", "1"], "expected every strength once, received 1 1"),
        (["--strength", "1", "--noise", "12"], "expected one of --strength, --noise and --like"),
        (["--noise", "0"], "expected a number above 0, received 0"),
        (["--like", "none"], "expected a CT file or a folder, received none, which does not exist"),
    ],
)
def test_what_contradicts_itself_is_a_wrong_call(tmp_path, capfd, words, sentence):
    write_ct_series(tmp_path / "in", slices=1)
    for more in ([], ["--watch"]):
        assert kpn("denoise", tmp_path / "in", tmp_path / "out", *words, *more) == 2
        assert sentence in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_word_with_a_strength_names_a_blend(installation):
    slice_hu = noisy_volume()[0]
    full_hu = Denoiser(BOX, threads=1)(slice_hu)
    opened = open_denoisers(("edge@0.5", "edge", "mean3@0.25"), 1, (0.2, 0.8))
    assert [one.name for one in opened] == ["edge@0.5", "edge@0.2", "edge@0.8", "mean3@0.25"]
    for one, strength in zip(opened, (0.5, 0.2, 0.8), strict=False):
        np.testing.assert_array_equal(one.denoise(slice_hu), blended(slice_hu, full_hu, strength))
        assert one.about["strength"] == strength
    assert opened[3].denoise.slices == 3
    with pytest.raises(ValueError, match="Expected every denoiser once, or at different strengths"):
        open_denoisers(("edge@0.5", "edge"), 1, (0.5,))
    with pytest.raises(
        ValueError, match=r"Expected NAME@STRENGTH with a strength from 0 to 1. Received: edge@5"
    ):
        open_denoisers(("edge@5",), 1)


def test_several_strengths_of_one_denoiser_run_it_once_a_slice():
    calls = []

    def half(slice_hu):
        calls.append(1)
        return slice_hu / 2

    remembering = Remembering(half)
    some, others = (AtStrength(remembering, strength) for strength in (0.5, 1.0))
    first, second = np.full((3, 5), 8.0), np.full((3, 5), 16.0)
    assert (some(first)[0, 0], others(first.copy())[0, 0], some(second)[0, 0]) == (6.0, 4.0, 12.0)
    assert len(calls) == 2


def test_evaluate_and_quality_speak_of_the_same_strengths(tmp_path, installation):
    write_ct_series(tmp_path / "in", rows=90, columns=84)
    words = ("--denoiser", "edge", "--strength", "0.5", "1", "--threads", "1")
    assert kpn("evaluate", tmp_path / "in", *words, "--json", tmp_path / "table.json") == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert list(table["denoisers"]) == ["edge@0.5", "edge"]
    assert kpn("quality", tmp_path / "in", tmp_path / "out", *words) == 0
    quality = json.loads((tmp_path / "out" / "quality.json").read_text())
    # The mean of so many pixels blurs the border of the disc into its flattest boxes: the map's median has none of it.
    (median,) = (one for one in quality["quantities"] if one["name"] == "noise SD map, median")
    noise = {kind: one["value"] for kind, one in median["values"].items()}
    assert noise["edge"] < noise["edge@0.5"] < noise["before"]


def test_the_noise_of_blends_is_that_of_blended_slices():
    before, rng = noisy_volume(), np.random.default_rng(5)
    after = before + rng.normal(0, 5, before.shape) - 0.5 * (before - noisy_volume(noise_hu=0.0))
    noise = NoiseOfBlend()
    for one, other in zip(before, after, strict=True):
        noise.add(one, other, (PIXEL_MM, PIXEL_MM))
    for strength in (0.0, 0.3, 1.0):
        expected = [
            regional_noise_std_hu(blended(one, other, strength), flat_regions(one, (PIXEL_MM, PIXEL_MM)))
            for one, other in zip(before, after, strict=True)
        ]
        assert noise.noise_hu(strength) == pytest.approx(np.mean(expected), rel=1e-4)
    wanted = noise.noise_hu(0.37)
    assert noise.strength_for(wanted) == pytest.approx(0.37, abs=0.002)
    assert noise.strength_for(100.0) == 0.0
    assert noise.strength_for(0.1) == 1.0
    with pytest.raises(ValueError, match="Expected flat soft tissue"):
        NoiseOfBlend().strength_for(12.0)


def test_a_wanted_noise_is_left_within_five_percent_and_the_header_says_how(tmp_path, capfd):
    # More slices than are measured.
    volume_hu = noisy_volume(slices=30, noise_hu=20.0)
    write_torso(tmp_path / "in", volume_hu)
    words = ("--weights", "edge", "--noise", "12")
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", *words, "--json", "--threads", "1") == 0
    (series,) = json.loads(capfd.readouterr().out)["series"]
    assert series["wanted_noise_hu"] == 12.0
    assert 0.2 < series["strength"] < 0.9
    derived = slices_of(tmp_path / "out" / series["derived_uid"])
    sources = sorted(
        (pydicom.dcmread(path) for path in (tmp_path / "in").iterdir()), key=lambda d: d.SOPInstanceUID
    )
    by_source = {one.SourceImageSequence[0].ReferencedSOPInstanceUID: one for one in derived.values()}
    measured = [
        regional_noise_std_hu(
            hu(by_source[source.SOPInstanceUID]), flat_regions(hu(source), (PIXEL_MM, PIXEL_MM))
        )
        for source in sources
    ]
    assert len(measured) == 30
    assert np.mean(measured) == pytest.approx(12.0, rel=0.05)
    assert series["noise_after_hu"] == pytest.approx(np.mean(measured), rel=1e-3)
    told = f"strength {series['strength']:g} (for noise of 12 HU in flat soft tissue, NPS mean frequency "
    told += f"{series['grain_per_mm']:.3f} per mm)"
    assert all(told in one.DerivationDescription for one in derived.values())
    # The same again finds what is there, without measuring.
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", *words) == 1
    assert "exists already" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "strength", "sentence"),
    [
        ("0.1", "1", r"noise of 0.1 HU was wanted, and strength 1 leaves "),
        ("50", "0", r"noise of 50 HU was wanted, and its source has "),
    ],
)
def test_a_noise_out_of_reach_is_told(tmp_path, capfd, wanted, strength, sentence):
    write_torso(tmp_path / "in")
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", "--weights", "edge", "--noise", wanted) == 0
    told = capfd.readouterr()
    assert f"strength {strength}, noise" in told.out
    assert sentence in told.err


def test_the_process_of_the_node_finds_strengths_as_the_command_does(tmp_path):
    write_torso(tmp_path / "in", noisy_volume(noise_hu=20.0))
    request = {"weights": "edge", "device": "cpu", "threads": 1, "strengths": [1.0]}
    request |= {"noise_hu": 12.0, "found": None}
    places = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out")}
    answer = worker._denoise({**request, **places}, worker._Networks(), lambda told: None)
    assert (answer["ok"], answer["failed"], answer["warnings"]) == (True, 0, "")
    (uid,) = answer["derived"]
    # What comes later gets the same, whatever noise it has; not with another network.
    write_torso(tmp_path / "late", noisy_volume(noise_hu=30.0))
    late = {**request, "input": str(tmp_path / "late"), "output": str(tmp_path / "out")}
    found = answer["found"]
    assert worker._denoise({**late, "found": found}, worker._Networks(), lambda told: None)["found"] == found
    other = {**late, "found": {**found, "file_sha256": "of another file"}, "output": str(tmp_path / "more")}
    assert (
        worker._denoise(other, worker._Networks(), lambda told: None)["found"]["strength"]
        != found["strength"]
    )
    again = {**request, **places, "noise_hu": None, "strengths": [0.4, 1.0]}
    assert len(worker._denoise(again, worker._Networks(), lambda told: None)["derived"]) == 2
    for one in slices_of(tmp_path / "out" / uid).values():
        assert "(for noise of 12 HU in flat soft tissue" in one.DerivationDescription


def test_a_series_without_flat_soft_tissue_has_no_strength_for_a_noise(tmp_path, installation, capfd):
    write_torso(tmp_path / "in", np.full((2, 96, 128), -1000.0))
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", "--noise", "12") == 1
    assert "shows no flat soft tissue" in capfd.readouterr().err


def test_the_noise_of_a_routine_series_is_a_goal(tmp_path, capfd):
    write_torso(tmp_path / "in", noisy_volume(noise_hu=20.0))
    write_torso(tmp_path / "routine", noisy_volume(noise_hu=12.0))
    words = ("--weights", "edge", "--like", tmp_path / "routine", "--json")
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", *words) == 0
    told = capfd.readouterr()
    (series,) = json.loads(told.out)["series"]
    measured = [
        regional_noise_std_hu(hu(one), flat_regions(hu(one), (PIXEL_MM, PIXEL_MM)))
        for one in slices_of(tmp_path / "routine").values()
    ]
    assert series["wanted_noise_hu"] == pytest.approx(np.mean(measured), abs=0.06)
    assert series["noise_after_hu"] == pytest.approx(series["wanted_noise_hu"], rel=0.05)
    assert f"noise {series['wanted_noise_hu']:.1f} HU, NPS mean frequency 0." in told.err
    shutil.copytree(tmp_path / "out", tmp_path / "routine" / "ours")
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", *words) == 1
    assert "Expected one series of routine dose. Received: 2" in capfd.readouterr().err


def test_strengths_and_noise_are_checked_in_python_too(box):
    for words, sentence in (
        (((0.5,), 12.0), "Expected strengths or a noise"),
        (((0.5, 0.5),), "Expected different strengths from 0 to 1"),
        ((None, 0.0), "Expected a noise above 0 HU"),
    ):
        with pytest.raises(ValueError, match=sentence):
            denoising.Denoising(box, *words)
    with pytest.raises(ValueError, match="Expected a denoiser of strength 1"):
        denoising.Denoising(Denoiser(BOX, threads=1, strength=0.5), (0.5,))


def test_a_rule_has_one_strength_or_several_or_a_noise():
    def rule(**table):
        return built(Rule, {"name": "a", "destinations": [], **table}, None)

    assert rule(strength=0.5).strengths == (0.5,)
    assert rule(strength=1).strengths == (1.0,)
    assert rule(strength=[0.4, 1]).strengths == (0.4, 1.0)
    assert rule(noise_hu=12).noise_hu == 12.0
    for table, sentence in (
        ({"strength": [0.4, 1.5]}, "strength from 0 to 1. Received: 1.5"),
        ({"strength": [0.4, 0.4]}, "one strength or different ones"),
        ({"strength": []}, "one strength or different ones"),
        ({"strength": "half"}, "a number for strength"),
        ({"noise_hu": 0}, "noise_hu above 0"),
        ({"noise_hu": 12, "strength": 0.5}, "strength or noise_hu, not both"),
    ):
        with pytest.raises(MistakesError, match=sentence):
            rule(**table)


def test_a_rule_of_the_node_makes_several_strengths(tmp_path):
    paths = write_ct_series(tmp_path / "in", slices=2)
    rule = 'name = "several"\nweights = "edge"\nstrength = [0.4, 1.0]\ndestinations = ["pacs"]'
    with Recorder() as pacs, Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)], rule=rule) as node:
        send(node.port, paths)
        until(lambda: node.lines("denoised"))
        node.settled()
        (line,) = node.lines("denoised")
        assert (line["slices"], line["failed"]) == (4, 0)
        derived = [pydicom.dcmread(path) for path in (node.spool / "series").glob("*/derived/*/*.dcm")]
    assert sorted(one.SeriesDescription.partition("KPN")[2] for one in derived) == [
        *["  40%, research use"] * 2,
        *[" 100%, research use"] * 2,
    ]
