"""The node and the watched folder never make one series of two: not of two patients, and not of two senders."""

import pydicom

from tests.ct_series import uid, write_ct_series
from tests.node_peers import Node, Recorder, send, until
from tests.test_watch import Watching

SAME = {"SeriesInstanceUID": uid("same"), "FrameOfReferenceUID": uid("frame")}

SECOND = """
[[peer]]
ae_title = "OTHER"
addresses = ["127.0.0.1"]

[[rule]]
name = "second"
calling_ae_title = ["OTHER"]
weights = "edge"
strength = 0.5
destinations = ["pacs"]
"""
FIRST = 'name = "first"\ncalling_ae_title = ["SCANNER"]\ndestinations = ["pacs"]\noriginals = true'


def two_patients(folder):
    """Three slices of each of two patients, in one study and series by their UIDs."""
    header = {**SAME, "StudyInstanceUID": uid("one study")}
    return [
        path
        for patient in ("P-1", "P-2")
        for path in write_ct_series(folder / patient, name=patient, PatientID=patient, **header)
    ]


def whose(paths):
    """Patients by derived series."""
    found = {}
    for path in paths:
        dataset = pydicom.dcmread(path)
        found.setdefault(dataset.SeriesInstanceUID, []).append(dataset.PatientID)
    return sorted(found.values())


def test_the_same_slices_from_two_senders_are_denoised_by_the_rule_of_each(tmp_path):
    paths = write_ct_series(tmp_path / "in", slices=3)
    with (
        Recorder() as pacs,
        Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)], rule=FIRST, sections=SECOND) as node,
    ):
        for calling, series in (("SCANNER", 1), ("OTHER", 2), ("OTHER", 2)):
            assert [status for status, _ in send(node.port, paths, calling=calling)] == [0x0000] * 3
            until(lambda series=series: len(node.lines("denoised")) == series)
        node.settled()
        assert [line["rule"] for line in node.lines("complete")] == ["first", "second"]
        derived = [pydicom.dcmread(path) for path in (node.spool / "series").glob("*/derived/*/*.dcm")]
        assert len({dataset.SeriesInstanceUID for dataset in derived}) == 2
        assert len({dataset.SeriesNumber for dataset in derived}) == 2
        # Three originals of the first, and three derived slices of either.
        assert len(pacs.digests) == 9


def test_two_patients_of_one_series_uid_are_two_series_of_the_node(tmp_path):
    paths = two_patients(tmp_path / "in")
    with Recorder() as pacs, Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)]) as node:
        send(node.port, [*paths[::2], *paths[1::2]])
        until(lambda: len(node.lines("denoised")) == 2)
        node.settled()
        assert len({line["series"] for line in node.lines("complete")}) == 2
        assert [line["slices"] for line in node.lines("complete")] == [3, 3]
        derived = (node.spool / "series").glob("*/derived/*/*.dcm")
        assert whose(derived) == [["P-1"] * 3, ["P-2"] * 3]
        assert len(pacs.digests) == 12


def test_two_patients_of_one_series_uid_are_two_series_of_a_watched_folder(tmp_path):
    with Watching(tmp_path / "watch") as watching:
        two_patients(watching.inbox)
        until(lambda: len(watching.lines("denoised")) == 2)
        assert whose(watching.output.glob("[!.]*/*.dcm")) == [["P-1"] * 3, ["P-2"] * 3]
