"""`kpn study`: a strength by a stated rule, its evidence on two pages, and rules that the node takes."""

import base64
import dataclasses
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydicom.uid import ExplicitVRLittleEndian

from kpn_tf.cli.study import _routine
from kpn_tf.denoiser import Denoiser, artefact
from kpn_tf.dicom import find_series
from kpn_tf.dose.simulation import SPECTRA, noise_field
from kpn_tf.metrics.noise_of_blend import NoiseOfBlend
from kpn_tf.node.listener.arrival import read_arrival
from kpn_tf.node.rule import Traits, first_match
from kpn_tf.node.settings import read_settings
from kpn_tf.phantom import torso, write_series
from kpn_tf.quality import lesions
from kpn_tf.study import Protocol, Recommendation, protocols, recommended, rules_toml
from kpn_tf.study.chart import chart
from kpn_tf.trained import DEFAULT_WEIGHTS
from tests.browser import CHROMIUM, HEADLESS
from tests.command import BOX, kpn
from tests.ct_series import write_ct_series
from tests.noisy_torso import noisy_volume, write_torso

DOCS = Path(__file__).parents[1] / "docs"
STUDY = (DOCS / "study.md").read_text(encoding="utf-8")

HEADER = {
    "Manufacturer": "ACME",
    "ManufacturerModelName": "Ring <1>",
    "BodyPartExamined": "ABDOMEN",
    "ConvolutionKernel": "B30f",
}


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """A study of one protocol of four slices, with the 7x7 mean as default weights."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copy(BOX, folder / f"{DEFAULT_WEIGHTS}.tflite")
    write_torso(folder / "in", noisy_volume(slices=4, noise_hu=20.0), changes=HEADER)
    # Of less noise than anything leaves: contrast alone limits the strength.
    write_torso(folder / "routine", noisy_volume(slices=2, noise_hu=3.0), changes=HEADER)
    words = ("--like", folder / "routine", "--realisations", "6", "--threads", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artefact, "WEIGHTS_FOLDER", folder)
        patch.setattr(lesions, "_TRANSFER_RESAMPLES", 4)
        status = kpn("study", folder / "in", folder / "out", *words)
    (protocol,) = json.loads((folder / "out" / "study.json").read_text())["protocols"]
    return SimpleNamespace(folder=folder, out=folder / "out", status=status, protocol=protocol)


def value(studied, where, name, kind, of=None):
    """A number of study.json."""
    (values,) = (q["values"] for q in studied.protocol[where] if q["name"] == name and of in (None, q["of"]))
    return values[kind]["value"]


def test_a_study_names_the_protocol_and_writes_sheet_table_and_rules(studied):
    assert studied.status == 0
    told = studied.protocol
    assert {path.name for path in studied.out.iterdir()} == {told["sheet"], "study.json", "rules.toml"}
    assert [told[name] for name in ("scanner", "kernel", "thickness_mm", "body_part", "slices")] == [
        "ACME Ring <1>", "B30f", 3.0, "ABDOMEN", 4,
    ]  # fmt: skip
    assert told["sheet"] == "acme-ring-1-b30f-3-mm-abdomen.html"
    # Every quantity of the issue, before and at each strength, on the protocol's own slices and on the torso.
    kinds = ["before", "20 %", "40 %", "60 %", "80 %", "100 %"]
    for where, name, of in (
        ("own", "noise SD", None),
        ("own", "NPS, mean frequency", None),
        ("torso", "noise SD", None),
        ("torso", "TTF, f50", "+100 HU, 15 mm"),
        ("torso", "contrast", "+20 HU, 8 mm"),
        ("torso", "detectability d'", "+20 HU, 8 mm"),
    ):
        assert all(np.isfinite(value(studied, where, name, kind, of)) for kind in kinds)


def test_the_torso_has_the_noise_of_the_protocol(studied):
    assert value(studied, "torso", "noise SD", "before") == pytest.approx(
        value(studied, "own", "noise SD", "before"), rel=0.05
    )
    assert studied.protocol["noise_hu"] == pytest.approx(
        value(studied, "own", "noise SD", "before"), rel=0.01
    )


def test_the_recommended_strength_is_the_largest_that_keeps_the_contrast(studied):
    change = next(
        q["changes"]["100 %"]["value"]
        for q in studied.protocol["torso"]
        if (q["name"], q["of"]) == ("contrast", "+20 HU, 8 mm")
    )
    truth = value(studied, "torso", "contrast", "truth", "+20 HU, 8 mm")
    strength = studied.protocol["recommended_strength"]
    assert 0 < strength < 1
    assert 1 + strength * change / truth >= 0.9 - 1e-9
    assert 1 + (strength + 0.05) * change / truth < 0.9
    # Contrast is linear in the strength: what is measured at 40 % is on the line.
    at_40 = value(studied, "torso", "contrast", "40 %", "+20 HU, 8 mm")
    assert at_40 - value(studied, "torso", "contrast", "before", "+20 HU, 8 mm") == pytest.approx(
        0.4 * change, abs=0.01
    )


def test_the_noise_of_routine_dose_is_told_and_that_it_is_not_reached(studied):
    told = studied.protocol
    (warning,) = told["warnings"]
    assert re.match(r"The noise that is wanted, 3.\d HU, is not reached: [\d.]+ HU are left", warning)
    assert told["strength_by_noise"] > told["recommended_strength"]
    assert told["rule"].endswith("HU of noise, as routine dose has.")
    text = (studied.out / told["sheet"]).read_text(encoding="utf-8")
    assert re.search(r"<dt>routine dose</dt><dd>series \.\.\.\d+: noise 3.\d HU, NPS mean frequency", text)


def test_routine_dose_is_that_of_each_protocol(tmp_path):
    write_torso(tmp_path / "a", noisy_volume(noise_hu=12.0), changes=HEADER)
    other = {**HEADER, "ConvolutionKernel": "B50f", "SeriesInstanceUID": "1.2.3"}
    write_torso(tmp_path / "b", noisy_volume(noise_hu=6.0), changes=other)
    routine = _routine(tmp_path, None)
    noises_hu = {kernel: like.noise_hu for (_, kernel, _, _), like in routine.items()}
    assert noises_hu["B30f"] == pytest.approx(2 * noises_hu["B50f"], rel=0.15)


def test_the_node_takes_the_rules_as_they_are(studied, monkeypatch, capfd):
    monkeypatch.setattr(artefact, "WEIGHTS_FOLDER", studied.folder)
    rules = studied.out / "rules.toml"
    assert kpn("serve-dicom", rules, "--check") == 0
    assert "nothing is wrong with it" in capfd.readouterr().out
    settings = read_settings(rules)
    rule = first_match(settings.rule, Traits("CT", "CT", "Body", "B30f", 3.0))
    assert rule.strengths == (studied.protocol["recommended_strength"],)
    rest = first_match(settings.rule, Traits("CT", "CT", "Body", "B30f", 1.0))
    assert (rest.weights, rest.originals) == ("", True)


def test_the_sheet_loads_nothing_and_says_nothing_of_the_patient(studied):
    text = (studied.out / studied.protocol["sheet"]).read_text(encoding="utf-8")
    for secret in ("Secret", "ID-0815", "19700101", str(studied.folder)):
        assert secret not in text + json.dumps(studied.protocol)
    assert "<script" not in text
    assert "Ring &lt;1&gt;" in text
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    identity = Denoiser(BOX, threads=1).identity
    for told in (
        identity.file_sha256,
        studied.protocol["slices_sha256"],
        f"Recommended strength: {studied.protocol['recommended_strength']:g}<",
        "Research use, not a medical device",
    ):
        assert told in text
    # Three pictures, all of the torso's liver: no slice has that size.
    pictures = [base64.b64decode(one) for one in re.findall(r"data:image/png;base64,([^\"]+)", text)]
    assert [tuple(np.frombuffer(one[16:24], ">u4")) for one in pictures] == [(240, 240)] * 3


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_sheet_prints_on_two_pages(studied, tmp_path):
    pdf = tmp_path / "sheet.pdf"
    shown(studied, tmp_path, f"--print-to-pdf={pdf}")
    assert re.findall(rb"/Count (\d+)", pdf.read_bytes()) == [b"2"]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_picture_of_the_docs_is_of_a_study_of_the_torso(tmp_path):
    """`KPN_PICTURES=docs/images` makes it anew: the shipped network, and 24 HU of a soft kernel's noise."""
    rng = np.random.default_rng(0)
    body = torso(slices=2)
    noise = [noise_field(one, 0.75, 24.0, SPECTRA["soft"], rng) for one in body.volume_hu]
    write_series(
        body.volume_hu + np.stack(noise),
        tmp_path / "in",
        pixel_spacing_mm=(0.75, 0.75),
        slice_spacing_mm=3.0,
        description="torso",
    )
    pictured(tmp_path / "in", tmp_path, "study_sheet.png", "--weights", "edge")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(
    ("series", "name"),
    [
        ("normal_dose/lungfcp_0001_chest_2mm", "study_chest.png"),
        ("normal_dose/crlm_1006_abdomen", "study_abdomen.png"),
    ],
)
def test_the_pictures_of_the_walk_are_of_studies_of_its_series_and_its_lines_hold(
    ct_data, tmp_path, series, name
):
    command = next(line for line in STUDY.splitlines() if line.startswith("    kpn study walk evidence"))
    told = pictured(ct_data / series, tmp_path, name, *command.split()[4:])
    said = f"strength {told['recommended_strength']:g}, leaves {told['noise_left_hu']:.1f} HU -> evidence/"
    assert said in STUDY


def pictured(series, folder, name, *options):
    """Studies a series, takes the picture of its sheet and returns what study.json says of it."""
    assert kpn("study", series, folder / "out", "--threads", "1", *options) == 0
    (protocol,) = json.loads((folder / "out" / "study.json").read_text())["protocols"]
    picture = Path(os.environ.get("KPN_PICTURES", folder)).absolute() / name
    made = SimpleNamespace(out=folder / "out", protocol=protocol)
    shown(made, folder, "--window-size=780,1180", f"--screenshot={picture}")
    kept = DOCS / "images" / name
    # Signature, width and height.
    assert picture.read_bytes()[:24] == kept.read_bytes()[:24]
    return protocol


def shown(studied, folder, *words):
    """Opens the sheet in a browser of its own."""
    page = (studied.out / studied.protocol["sheet"]).as_uri()
    command = [*HEADLESS, f"--user-data-dir={folder / 'profile'}", "--hide-scrollbars", *words, page]
    subprocess.run(command, check=True, capture_output=True, timeout=300)


def measurement(lost, noise_hu=20.0):
    """A measurement whose smallest lesion loses a share of its contrast, and whose noise halves."""
    before = noisy_volume(noise_hu=noise_hu)
    blend = NoiseOfBlend()
    for one, truth in zip(before, noisy_volume(noise_hu=0.0), strict=True):
        blend.add(one, (one + truth) / 2, (2.8, 2.8))
    return SimpleNamespace(
        blend=blend, lesions=lambda: ["+20 HU, 8 mm"], contrast_kept=lambda lesion, s: 1 - s * lost
    )


def test_contrast_or_noise_limits_the_strength_whichever_is_reached_first():
    free = recommended(measurement(0.05), ())
    assert (free.strength, free.by_contrast, free.by_noise, free.warnings) == (1.0, 1.0, None, ())
    by_contrast = recommended(measurement(0.4), ())
    assert (by_contrast.strength, by_contrast.by_contrast) == (0.25, pytest.approx(0.25))
    given_hu = measurement(0.4).blend.noise_hu(0.0)
    by_noise = recommended(measurement(0.4), (), wanted_noise_hu=0.95 * given_hu, why="as routine dose has")
    assert by_noise.strength == 0.1
    assert by_noise.noise_hu == pytest.approx(0.95 * given_hu, rel=0.01)
    assert "no more than leaves" in by_noise.rule
    assert by_noise.rule.endswith("as routine dose has.")


def test_what_a_recommendation_leaves_open_is_a_warning():
    given_hu = measurement(0.4).blend.noise_hu(0.0)
    (warning,) = recommended(measurement(0.4), (), wanted_noise_hu=given_hu / 2).warnings
    assert warning.startswith(f"The noise that is wanted, {given_hu / 2:g} HU, is not reached")
    useless = recommended(measurement(4.0), ("a head", "not axial"))
    assert useless.strength == 0.0
    assert useless.warnings == (
        "Outside what the network was made for: a head, not axial.",
        "No strength meets the rule: the network is not recommended for this protocol.",
    )


def test_protocols_are_told_apart_by_scanner_kernel_thickness_and_body_part(tmp_path):
    variants = [
        HEADER,
        {**HEADER, "Manufacturer": "OTHER"},
        {**HEADER, "ConvolutionKernel": "B50f"},
        {**HEADER, "SliceThickness": 1},
        {**HEADER, "BodyPartExamined": ""},
    ]
    for number, header in enumerate([*variants, HEADER]):
        write_ct_series(tmp_path / "in" / str(number), name=f"s{number}", slices=1, **header)
    found, _ = find_series(tmp_path / "in")
    notes = []
    made = dataclasses.replace(found[0], denoised=True)
    sorted_out = protocols([*found, made], lambda *words: notes.append(words))
    assert sorted(len(one.series) for one in sorted_out) == [1, 1, 1, 1, 2]
    assert "ACME Ring <1>, B30f, 3 mm, body part not said" in [one.name for one in sorted_out]
    assert [failure for _, failure in notes] == [False]


def test_the_starter_table_and_its_rules_say_the_same_and_the_node_reads_them():
    page, rules = ((DOCS / name).read_text(encoding="utf-8") for name in ("starter.md", "starter_rules.toml"))
    rows = re.findall(
        r"^\| (.+), (.+), ([\d.]+) mm, .+? \| \d+ \| [\d.]+ \| \*\*([\d.]+)\*\* \|", page, re.MULTILINE
    )
    assert len(rows) == 18
    settings = read_settings(DOCS / "starter_rules.toml")
    for _, kernel, thickness_mm, _ in rows:
        alike = [float(other[3]) for other in rows if other[1:3] == (kernel, thickness_mm)]
        rule = first_match(settings.rule, Traits("CT", "CT", "", kernel, float(thickness_mm)))
        if kernel == "kernel not said":
            assert rule.name == "rest"
        else:
            assert rule.strengths == (min(alike),)
            assert rule.weights == "edge"
    for text in (page, rules):
        assert "no substitute for" in " ".join(text.split()).lower()


def test_rules_take_the_smaller_strength_where_they_cannot_tell_protocols_apart():
    def of(body_part, kernel, thickness_mm, strength):
        found = Recommendation(strength, strength, None, 10.0, "rule", ())
        return Protocol("ACME", kernel, body_part, thickness_mm, ()), found

    text = rules_toml(
        [
            of("CHEST", "B*30\\3", 3.0, 0.5),
            of("ABDOMEN", "B*30\\3", 3.0, 0.35),
            of("HEAD", 'q"\n', None, 0.0),
        ],
        "edge",
    )
    first, second, rest = tomllib.loads(text)["rule"]
    assert (first["kernel"], first["strength"]) == (["B[*]30\\3"], 0.35)
    assert first["thickness_mm"] == pytest.approx([2.95, 3.05])
    assert (second["weights"], "thickness_mm" in second) == ("", False)
    assert rest["weights"] == ""


def test_a_rule_takes_the_series_whose_kernel_has_two_values(tmp_path):
    (path,) = write_ct_series(tmp_path / "in", slices=1, ConvolutionKernel="Br38f\\3")
    (protocol,) = protocols(find_series(tmp_path / "in")[0], None)
    assert protocol.kernel == "Br38f\\3"
    found = Recommendation(0.5, 0.5, None, 10.0, "rule", ())
    (tmp_path / "rules.toml").write_text(rules_toml([(protocol, found)], "edge"))
    # As the node sees it when the slice arrives.
    traits = read_arrival(path, str(ExplicitVRLittleEndian), "SCANNER", largest=10**6).traits
    assert first_match(read_settings(tmp_path / "rules.toml").rule, traits).strengths == (0.5,)


def test_a_chart_marks_the_strength_and_names_its_curves():
    svg = chart("Noise", "HU", {"a < b": [(0.0, 20.0), (1.0, 5.0)]}, marked=0.5)
    assert "a &lt; b" in svg
    assert svg.count("<polyline") == 1
    left, right = re.search(r'points="([\d.]+),[\d.]+ ([\d.]+),', svg).groups()
    assert f"M{(float(left) + float(right)) / 2:.1f} " in svg


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["none", "out"], "expected a CT file or a folder, received none, which does not exist"),
        ([".", "out", "--noise", "9", "--like", "."], "expected one of --noise and --like"),
        ([".", "out", "--realisations", "3"], "expected a whole number from 6 on, received 3"),
        ([".", __file__], "expected OUTPUT to be a folder that can be written"),
    ],
)
def test_a_wrong_call_is_one_sentence(words, sentence, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert kpn("study", *words) == 2
    assert sentence in capfd.readouterr().err


def test_a_folder_without_flat_soft_tissue_cannot_be_studied(tmp_path, capfd):
    write_torso(tmp_path / "in", np.full((1, 96, 128), -1000.0))
    assert kpn("study", tmp_path / "in", tmp_path / "out", "--weights", BOX, "--realisations", "6") == 1
    err = capfd.readouterr().err
    assert "Expected flat soft tissue" in err
    assert "none of the series could be studied" in err
