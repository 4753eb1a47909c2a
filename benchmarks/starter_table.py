"""The starter table and its rules: `kpn study` of public series, for docs/starter.md and docs/starter_rules.toml.

`python -m benchmarks.starter_table DATA OUTPUT` studies one protocol after the other (a minute of a core each), leaves
out those that `OUTPUT` has already, writes `OUTPUT/starter_rules.toml` and prints the table. `DATA` holds the series in
`normal_dose` and `normal_dose_test`.
"""

import json
import shutil
import sys
from pathlib import Path

from kpn_tf import cli
from kpn_tf.quality.report import BEFORE
from kpn_tf.study import Protocol, Recommendation, rules_toml

WEIGHTS = "edge"
REALISATIONS = 12

# What the network has seen of the patients, by its model card.
_TEST, _VALIDATION, _NEVER, _TRAINED = (
    "test",
    "chose the checkpoint",
    "never seen",
    "**its patient trained the network**",
)

# A protocol each: folders, collection, what the network has seen. Of a protocol with a patient that did not train it,
# those who did are left out.
_PROTOCOLS = (
    (("normal_dose/lungfcp_0001_chest_2mm",), "Lung-Fused-CT-Pathology", _NEVER),
    (("normal_dose/crlm_1006_abdomen",), "Colorectal-Liver-Metastases", _VALIDATION),
    (("normal_dose_test/biograph_abdomen_j2k",), "TotalSegmentator", _TEST),
    (("normal_dose/lidc_0001_chest_2.5mm", "normal_dose/lidc_0013_abdomen_2.5mm"), "LIDC-IDRI", _NEVER),
    (("normal_dose/rider_0109_abdomen_chest_5mm",), "RIDER Pilot", _NEVER),
    (("normal_dose/lidc_0006_abdomen_chest_2.5mm",), "LIDC-IDRI", _NEVER),
    (("normal_dose/acrin_013_chest_abdomen",), "ACRIN-FLT-Breast", _NEVER),
    (("normal_dose_test/covid_ny_sbu_single_slices",), "COVID-19-NY-SBU", _TEST),
    (("normal_dose/lidc_0314_chest_1mm",), "LIDC-IDRI", _TRAINED),
    (("normal_dose/rider_0117_chest_thin",), "RIDER Pilot", _TRAINED),
    (("normal_dose/cptac_pda_chest",), "CPTAC-PDA", _TRAINED),
    (("normal_dose/tcga_ov_abdomen",), "TCGA-OV", _TRAINED),
    (("normal_dose/acrin_001_chest",), "ACRIN-FLT-Breast", _TRAINED),
    (("normal_dose/tcga_thca_neck_chest",), "TCGA-THCA", _TRAINED),
    (("normal_dose/lungdx_a0002_chest_8mm",), "Lung-PET-CT-Dx", _TRAINED),
)

_HEAD = """\
# A start, from few public series of routine dose: no substitute for kpn study on your own series. See docs/starter.md.
"""

_COLUMNS = (
    "protocol",
    "slices",
    "noise (HU)",
    "strength",
    "leaves (HU)",
    "contrast kept (at 1)",
    "d', given",
    "d' at 1, change",
    "collection",
    "patients",
)

_LESION = "+20 HU, 8 mm"


def main(data, output):
    """Studies what is not yet studied, writes the rules and prints the table."""
    rows, studied = [], []
    for folders, collection, seen in _PROTOCOLS:
        folder = Path(output, Path(folders[0]).name)
        if not (folder / "study.json").exists():
            _study([Path(data, one) for one in folders], folder)
        for told in json.loads((folder / "study.json").read_text(encoding="utf-8"))["protocols"]:
            protocol = Protocol(
                *(told[name] for name in ("scanner", "kernel", "body_part", "thickness_mm")), ()
            )
            rows.append(_row(protocol, told, collection, seen))
            # A rule for series whose header names no kernel would take whatever has none.
            if protocol.kernel:
                studied.append((protocol, _recommendation(told)))
    rules = _HEAD + rules_toml(studied, WEIGHTS)
    Path(output, "starter_rules.toml").write_text(rules, encoding="utf-8")
    for cells in (_COLUMNS, ["---"] * len(_COLUMNS), *rows):
        print(f"| {' | '.join(cells)} |")


def _study(folders, output):
    """`kpn study` of the series of several folders, through links: it takes one folder."""
    partial = output.with_name(f"{output.name}.partial")
    links = partial / "series"
    shutil.rmtree(partial, ignore_errors=True)
    links.mkdir(parents=True)
    for folder in folders:
        for path in folder.glob("*.dcm"):
            (links / f"{folder.name}-{path.name}").symlink_to(path.absolute())
    options = ("--weights", WEIGHTS, "--realisations", str(REALISATIONS), "--threads", "1")
    cli.main(["study", str(links), str(partial), *options])
    partial.rename(output)


def _row(protocol, told, collection, seen):
    (contrast,) = (one for one in told["torso"] if (one["name"], one["of"]) == ("contrast", _LESION))
    (found,) = (one for one in told["torso"] if (one["name"], one["of"]) == ("detectability d'", _LESION))
    strength = told["recommended_strength"]
    lost = contrast["changes"]["100 %"]["value"] / contrast["values"]["truth"]["value"]
    change = found["changes"]["100 %"]
    return (
        protocol.name + "".join(f" ({warning})" for warning in told["warnings"]),
        str(told["slices"]),
        f"{told['noise_hu']:.1f}",
        f"**{strength:g}**",
        f"{told['noise_left_hu']:.1f}",
        f"{100 + 100 * strength * lost:.0f} % ({100 + 100 * lost:.0f} %)",
        f"{found['values'][BEFORE]['value']:.1f}",
        f"{change['value']:+.1f} [{change['low']:+.1f}, {change['high']:+.1f}]",
        collection,
        seen,
    )


def _recommendation(told):
    names = ("recommended_strength", "strength_by_contrast", "strength_by_noise", "noise_left_hu", "rule")
    return Recommendation(*(told[name] for name in names), tuple(told["warnings"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
