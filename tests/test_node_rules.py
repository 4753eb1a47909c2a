"""What becomes of a series: rules, what is never denoised, missing and late slices, deletion."""

import os
import signal

import pydicom
import pytest
from pydicom.uid import EnhancedCTImageStorage

from kpn_tf.dicom.reading.decoding import DECODABLE
from kpn_tf.node.journal.arrivals import gaps_mm
from kpn_tf.node.listener.receiver import SYNTAXES
from kpn_tf.node.rule import Rule, Traits, first_match
from tests.ct_series import uid, write_ct_series
from tests.dicom_fixtures import save
from tests.enhanced_fixtures import enhanced_ct, slices_of
from tests.node_peers import CT, Node, Recorder, send, until

CHEST = Traits("CT1", "CT", "Thorax 1.0 Br36", "Br36d", 1.0)


def changed(paths, **attributes):
    """Changes attributes of files."""
    for path in paths:
        dataset = pydicom.dcmread(path)
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path, enforce_file_format=True)
    return paths


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({}, True),
        ({"calling_ae_title": ("CT?",)}, True),
        ({"calling_ae_title": ("CT2", "ct1")}, True),
        ({"calling_ae_title": ("CT",)}, False),
        ({"modality": ("MR",)}, False),
        ({"description": ("*thorax*",)}, True),
        ({"description": ("thorax",)}, False),
        ({"kernel": ("Br*", "Hr*")}, True),
        ({"kernel": ("Bl*",)}, False),
        ({"thickness_mm": (0.0, 1.0)}, True),
        ({"thickness_mm": (1.5, 5.0)}, False),
        ({"kernel": ("Br*",), "thickness_mm": (1.5, 5.0)}, False),
    ],
)
def test_a_rule_matches_where_all_of_its_conditions_hold(conditions, matches):
    assert Rule("x", (), **conditions).matches(CHEST) is matches


def test_the_first_rule_that_matches_is_taken():
    rules = (
        Rule("sharp", (), kernel=("Bl*",)),
        Rule("chest", (), description=("*thorax*",)),
        Rule("all", ()),
    )
    assert first_match(rules, CHEST).name == "chest"
    assert first_match(rules, Traits("CT1", "CT", "", "", None)).name == "all"
    assert first_match(rules[:2], Traits("CT1", "CT", "", "", None)) is None


def test_a_series_without_thickness_matches_no_range_of_it():
    assert not Rule("x", (), thickness_mm=(0.0, 100.0)).matches(Traits("CT1", "CT", "", "", None))


@pytest.mark.parametrize(
    ("positions_mm", "gaps"),
    [
        ([0, 1, 2, 3, 5], [4.0]),
        ([3, 0, 6, 9, 21, 18], [12.0, 15.0]),
        ([-2.5, 0, 2.5, 2.5, 5.0], []),
        ([0, 1, 2, 3.2, 4.1], []),
        ([0, 3], []),
        ([0, 0.01, 2.5, 2.51, 5.0, 5.01, 10.0], [7.5]),
        ([], []),
    ],
)
def test_gaps_are_found_at_the_distance_that_most_slices_have(positions_mm, gaps):
    assert gaps_mm(positions_mm) == gaps


def test_positions_that_make_no_sense_cost_neither_memory_nor_time():
    assert len(gaps_mm([0.0, 1.0, 2.0, 9e9])) == 1000


def test_missing_slices_are_told_by_position_and_the_rest_goes_on(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="gap", slices=6)
    with Recorder() as pacs, Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)]) as node:
        send(node.port, [path for index, path in enumerate(paths) if index != 3])
        (line,) = until(lambda: node.lines("complete"))
        assert line["missing_mm"] == [9.0]
        assert line["note"] == "slices are missing at 9 mm"
        until(lambda: len(pacs.digests) == 10)


def test_a_count_in_the_header_ends_the_waiting_and_is_held_against_what_came(tmp_path):
    whole = changed(write_ct_series(tmp_path / "a", name="count", slices=3), ImagesInAcquisition=3)
    part = changed(write_ct_series(tmp_path / "b", name="short", slices=2), ImagesInAcquisition=3)
    rule = 'name = "keep"\nweights = ""\ndestinations = []'
    with Node(tmp_path / "node", rule=rule, quiet_s=6) as node:
        send(node.port, [*part, *whole])
        until(lambda: len(node.lines("complete")) == 2)
        # The one that came first waits for its third slice, the other for nothing.
        assert [line["note"] for line in node.lines("complete")] == ["", "2 of 3 slices came"]


def test_slices_that_come_late_join_the_same_derived_series(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="late", slices=4)
    with Recorder() as pacs, Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)]) as node:
        send(node.port, paths[:3])
        until(lambda: len(pacs.digests) == 6)
        send(node.port, paths)
        until(lambda: len(pacs.digests) == 8)
        node.settled()
        derived = list((node.spool / "series").glob("*/derived/*/*.dcm"))
        assert len(derived) == 4
        assert len({pydicom.dcmread(path).SeriesInstanceUID for path in derived}) == 1
        assert {len(digests) for digests in pacs.digests.values()} == {1}


def test_own_output_is_forwarded_and_never_denoised_and_derived_images_of_others_are_with_a_warning(tmp_path):
    other = changed(
        write_ct_series(tmp_path / "in", name="mpr", slices=2), ImageType=["DERIVED", "SECONDARY", "MPR"]
    )
    mine = write_ct_series(tmp_path / "in2", name="own", slices=2)
    with Recorder() as pacs, Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)]) as node:
        send(node.port, [*other, *mine])
        until(lambda: len(pacs.digests) == 8)
        node.settled()
        own = list((node.spool / "series").glob("*/derived/*/*.dcm"))
        assert len(own) == 4
        reasons = "derived from other images, a reformat"
        warning = f"outside what the network was made for ({reasons}); compare it with its source"
        assert sorted(line["note"] for line in node.lines("denoised")) == ["", warning]
        # The archive sends it back, as archives do.
        send(node.port, own)
        until(lambda: len(node.lines("complete")) == 4)
        node.settled()
        assert len(node.lines("denoised")) == 2
        notes = [line["note"] for line in node.lines("complete")]
        assert notes.count("not denoised: made by kpn_tf") == 2
    assert len(pacs.digests) == 8


def test_a_series_that_no_rule_takes_is_kept_and_goes_nowhere(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="none", slices=2, kernel="B70f")
    with Recorder() as pacs:
        rule = 'name = "soft"\nkernel = ["B30*"]\ndestinations = ["pacs"]'
        with Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)], rule=rule) as node:
            send(node.port, paths)
            until(lambda: node.lines("complete"))
            node.settled()
            assert node.lines("complete")[0]["note"] == "no rule matches"
            assert len(list(node.spool.glob("series/*/originals/*.dcm"))) == 2
        assert pacs.digests == {}


def test_a_series_that_cannot_be_denoised_fails_alone_and_its_originals_arrive(tmp_path):
    paths = changed(
        write_ct_series(tmp_path / "in", name="scout", slices=1), RescaleType="US", RescaleSlope=0
    )
    good = write_ct_series(tmp_path / "in2", name="good", slices=1)
    with Recorder() as pacs, Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)]) as node:
        send(node.port, [*paths, *good])
        (line,) = until(lambda: node.lines("failed"))
        assert line["reason"] == "has an unusable RescaleSlope of 0"
        until(lambda: len(pacs.digests) == 3)
        node.settled()


def test_a_scout_view_is_forwarded_and_is_no_failure(tmp_path):
    paths = changed(
        write_ct_series(tmp_path / "in", name="scout", slices=1),
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )
    with Recorder() as pacs, Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)]) as node:
        send(node.port, paths)
        until(lambda: node.lines("sent"))
        assert node.lines("failed") == []
        assert node.journal("SELECT note FROM series") == [
            ("not denoised: is a localizer (scout view), not a slice",)
        ]
        until(lambda: len(pacs.digests) == 1)


def test_frames_of_an_enhanced_object_come_back_as_slices_and_a_gap_between_them_is_told(tmp_path):
    slices = slices_of(6)
    path = save(enhanced_ct([*slices[:2], *slices[3:]]), tmp_path / "enhanced.dcm")
    with Recorder(classes=(CT, EnhancedCTImageStorage)) as pacs:
        rule = 'name = "enhanced"\nkernel = ["SOFT"]\noriginals = true\ndestinations = ["pacs"]'
        with Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)], rule=rule) as node:
            assert send(node.port, [path]) == [(0x0000, "")]
            until(lambda: len(pacs.digests) == 6)
            node.settled()
            (line,) = node.lines("complete")
            assert (line["slices"], line["missing_mm"]) == (5, [5.0])
            assert node.lines("denoised")[0]["slices"] == 5


def test_a_series_that_ends_its_process_again_and_again_fails_and_the_next_one_is_denoised(tmp_path):
    poison = write_ct_series(tmp_path / "in", name="poison", slices=12, rows=512, columns=512)
    good = write_ct_series(tmp_path / "in2", name="healthy", slices=1)
    with Recorder() as pacs, Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)]) as node:
        send(node.port, poison)

        def kill():
            attempts = node.journal("SELECT attempts FROM series")
            if attempts != kill.seen and (children := node.children()):
                os.kill(children[0], signal.SIGKILL)
                kill.seen = attempts
            return node.lines("failed")

        kill.seen = [(0,)]
        (line,) = until(kill)
        assert line["reason"] == "given up after 3 attempts that ended without an answer"
        assert [line["attempt"] for line in node.lines("denoising failed")] == [1, 2, 3]
        send(node.port, good)
        until(lambda: len(pacs.digests) == 14)
        node.settled()


def test_the_syntaxes_that_are_taken_are_those_that_can_be_decoded_and_lossless_ones_come_first():
    assert set(map(str, SYNTAXES)) == DECODABLE
    assert len(SYNTAXES) == len(DECODABLE)
    names = [syntax.name for syntax in SYNTAXES]
    lossy = [
        index
        for index, name in enumerate(names)
        if "Lossy" in name or name in ("JPEG 2000 Image Compression",)
    ]
    assert min(lossy) > max(
        index for index, name in enumerate(names) if "Lossless" in name and "Lossy" not in name
    )


def test_what_was_delivered_is_deleted_on_time_and_the_journal_forgets_whose_it_was(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="deleted", slices=2)
    with Recorder() as pacs:
        retention = "[retention]\ndays = 0\n"
        with Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)], sections=retention) as node:
            send(node.port, paths)
            until(lambda: node.lines("deleted"))
            assert len(pacs.digests) == 4
            assert list(node.spool.rglob("*.dcm")) == []
            dump = str(
                [
                    node.journal(f"SELECT * FROM {table}")
                    for table in ("series", "instance", "delivery", "place")
                ]
            )
    assert uid("deleted", "series") not in dump
    assert "Secret" not in dump
    journal = b"".join(path.read_bytes() for path in node.spool.glob("journal*"))
    assert uid("deleted", "series").encode() not in journal
