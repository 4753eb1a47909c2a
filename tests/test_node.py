"""A scanner sends, the node denoises and forwards, an archive has it: with Orthanc, dcmtk and real processes."""

import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest

from kpn_tf.node.listener.receiver import SYNTAXES
from tests.ct_series import uid, write_ct_series
from tests.node_peers import Node, Orthanc, Recorder, needs_dcmtk, needs_orthanc, send, until
from tests.node_scenarios import derived_from
from tests.ports import free_port


@needs_orthanc
def test_what_a_scanner_sends_is_in_the_archive_with_what_was_made_of_it(tmp_path):
    paths = write_ct_series(tmp_path / "in", name="whole", slices=5)
    with Orthanc(tmp_path / "pacs") as pacs:
        node = Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)])
        scanner = Orthanc(
            tmp_path / "scanner", title="SCANNER", modalities={"kpn": ["KPN", "127.0.0.1", node.port]}
        )
        with node, scanner:
            scanner.load(paths)
            assert scanner.rest("/modalities/kpn/echo", {}) == {}
            scanner.send("kpn")
            until(lambda: pacs.count() == 10)
            node.settled()
            found = pacs.datasets()
        assert node.process.returncode == 0
    derived = derived_from(tmp_path / "in", tmp_path / "expected")
    originals = {dataset.SOPInstanceUID: dataset for dataset in map(pydicom.dcmread, paths)}
    assert set(found) == {*derived, *originals}
    for sop_uid, dataset in {**derived, **originals}.items():
        assert found[sop_uid] == dataset
    assert "Secret" not in node.log.read_text()
    assert "ID-0815" not in node.log.read_text()
    assert uid("whole", "series") not in node.log.read_text()


@needs_dcmtk
def test_storescu_sends_and_storescp_receives(tmp_path):

    paths = write_ct_series(tmp_path / "in", name="dcmtk", slices=3)
    port, inbox = free_port(), tmp_path / "inbox"
    inbox.mkdir()
    archive = subprocess.Popen(["storescp", "--output-directory", str(inbox), str(port)])
    try:
        with Node(tmp_path / "node", [("pacs", "STORESCP", port)]) as node:
            echo = ["echoscu", "-aet", "SCANNER", "-aec", "KPN", "127.0.0.1", str(node.port)]
            assert subprocess.run(echo).returncode == 0
            call = [
                "storescu",
                "-aet",
                "SCANNER",
                "-aec",
                "KPN",
                "127.0.0.1",
                str(node.port),
                *map(str, paths),
            ]
            assert subprocess.run(call).returncode == 0
            node.settled()
    finally:
        archive.terminate()
        archive.wait()
    received = {pydicom.dcmread(path).SOPInstanceUID for path in inbox.iterdir()}
    assert len(received) == 6
    assert received == {
        *derived_from(tmp_path / "in", tmp_path / "expected"),
        *(pydicom.dcmread(path).SOPInstanceUID for path in paths),
    }


@pytest.mark.slow
def test_real_slices_of_every_syntax_are_taken_and_denoised_as_kpn_denoise_does(tmp_path, ct_data):
    # Several of these files are the same slice in another syntax: one node takes the first only.
    by_uid, folder = {}, tmp_path / "in"
    folder.mkdir()
    for path in sorted((ct_data / "transfer_syntaxes").glob("*.dcm")):
        meta = pydicom.filereader.read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") in set(SYNTAXES) and meta.MediaStorageSOPInstanceUID not in by_uid:
            by_uid[str(meta.MediaStorageSOPInstanceUID)] = shutil.copy(path, folder)
    assert len(by_uid) >= 20
    paths = sorted(by_uid.values())
    with Recorder() as pacs:
        rule = 'name = "derived"\ndestinations = ["pacs"]'
        with Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)], rule=rule, quiet_s=2) as node:
            answers = dict(zip(map(Path, paths), send(node.port, paths), strict=True))
            until(lambda: node.lines("complete"))
            node.settled()
    # The data of one source has other UIDs in the meta header than in the data set.
    refused = {path: comment for path, (status, comment) in answers.items() if status != 0x0000}
    assert set(refused.values()) == {"has another SOPInstanceUID than was announced"}
    for path in refused:
        path.unlink()
    made = {dataset.SOPInstanceUID for dataset in derived_from(folder, tmp_path / "expected").values()}
    assert len(made) >= 10
    assert set(pacs.digests) == made
