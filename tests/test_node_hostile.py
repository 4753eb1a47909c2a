"""Malformed and hostile input: a clear refusal, nothing outside of the spool, and the node stays up."""

import contextlib
import io
import os
import signal
import socket
import struct
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pynetdicom import build_context
from pynetdicom.sop_class import Verification

from tests import hostile_files
from tests.ct_series import uid, write_ct_series
from tests.dicom_fixtures import UID_ROOT, save
from tests.enhanced_fixtures import enhanced_ct, slices_of
from tests.node_peers import (
    EXPLICIT,
    IMPLICIT,
    Node,
    Recorder,
    associate,
    associate_request,
    p_data,
    store,
    until,
)

DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_LS = "1.2.840.10008.1.2.4.80"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A node that keeps what it takes and sends nothing; in the end no thread has died and the log has no names."""
    limits = "[limits]\nobject_mb = 4.0\nkeep_free_gb = 0.01\ntimeout_s = 2.0\nassociations = 4\n"
    rule = 'name = "keep"\ndestinations = []\nweights = ""'
    with Node(tmp_path_factory.mktemp("hostile"), rule=rule, sections=limits) as running:
        yield running
        # After all of what the tests have sent:
        until(lambda: answers_if_it_can(running))
        assert running.lines("thread died") == []
        text = running.log.read_text()
        assert all(line.startswith("{") for line in text.splitlines())
        assert "Secret" not in text
        assert "ID-0815" not in text


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A slice as it goes over the wire, which no test sends as it is: its data set, and its UID."""
    return wire(tmp_path_factory.mktemp("slice"), "hostile")


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """Another one, to be damaged at random, perhaps harmlessly."""
    return wire(tmp_path_factory.mktemp("slice"), "damaged")


def wire(folder, name):
    (path,) = write_ct_series(folder, name=name, slices=1)
    return data_set(path), str(pydicom.dcmread(path).SOPInstanceUID)


def data_set(path):
    """The bytes of a file after its meta header."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<I", content, 140)
    return content[144 + length :]


def answers(node):
    """Whether the node still takes part in the protocol."""
    association = associate(node.port, contexts=[build_context(Verification)])
    assert association.is_established
    status = association.send_c_echo()
    association.release()
    return node.process.poll() is None and status.Status == 0x0000


def kept(node):
    """SOP Instance UIDs that the journal holds."""
    return {row[0] for row in node.journal("SELECT sop_uid FROM instance")}


def strangers(node):
    """Files in the spool or beside it that have no place there."""
    known = {
        "node.toml",
        "log.jsonl",
        "spool",
        "lock",
        "journal.sqlite",
        "journal.sqlite-wal",
        "journal.sqlite-shm",
    }
    found = [path for path in node.folder.rglob("*") if path.is_file() and path.name not in known]
    return [path for path in found if path.parent.name not in ("originals", "incoming")]


def changed(content, keyword, value):
    """A data set with one attribute changed, encoded without any check."""
    dataset = pydicom.dcmread(io.BytesIO(content), force=True)
    dataset.file_meta.TransferSyntaxUID = EXPLICIT
    vr = dataset[keyword].VR
    dataset[keyword] = pydicom.dataelem.RawDataElement(
        pydicom.datadict.tag_for_keyword(keyword), vr, len(value), value, 0, False, True
    )
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, force_encoding=True, implicit_vr=False, little_endian=True)
    return buffer.getvalue()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_header_with_any_bytes_overwritten_is_taken_or_refused(node, damaged, data):
    content, sop_uid = bytearray(damaged[0]), damaged[1]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 900))
        patch = data.draw(st.binary(min_size=1, max_size=8))
        content[at : at + len(patch)] = patch
    answer = store(node, bytes(content), sop_uid)
    assert answer is None or answer[0] in (0x0000, 0xA900, 0xC000)
    assert strangers(node) == []
    assert answers(node)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.0, 0.999))
def test_a_slice_that_is_cut_off_anywhere_is_refused(node, whole, share):
    content, sop_uid = whole
    status, comment = store(node, content[: int(len(content) * share)] or b"\0", sop_uid)
    assert status in (0xC000, 0xA900)
    assert comment
    assert sop_uid not in kept(node)


@pytest.mark.parametrize(
    "name",
    [
        b"../../../../etc/passwd",
        b"/kpn_hostile",
        b"1.2.3\0../x",
        b"1.2.3/../../4",
        b"..",
        b"1" * 70,
        b"%2e%2e",
    ],
)
@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
def test_path_characters_in_a_uid_are_refused_and_touch_no_file(node, whole, keyword, name):
    content = changed(whole[0], keyword, name + b"\0" * (len(name) % 2))
    sop_uid = name.decode() if keyword == "SOPInstanceUID" else whole[1]
    answer = store(node, content, sop_uid[:64])
    assert answer is None or answer[0] == 0xC000
    assert strangers(node) == []
    assert answers(node)


@pytest.mark.parametrize(
    "tag", [b"\x08\x00\x18\x00", b"\x09\x00\x10\x10", b"\x10\x00\x10\x00", b"\xe0\x7f\x10\x00"]
)
def test_an_element_that_claims_four_gigabytes_is_refused(node, whole, tag):
    content, sop_uid = whole
    at = content.find(tag) if tag in content else 0
    content = content[:at] + tag + b"OB\0\0\xf0\xff\xff\xff" + content[at + 8 :]
    answer = store(node, content, sop_uid)
    assert answer is not None
    assert answer[0] in (0xC000, 0xA900)
    assert answers(node)


def test_a_sequence_nested_ten_thousand_deep_is_refused(node, whole):
    nested = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 10_000
    content, sop_uid = whole
    answer = store(node, nested + content, sop_uid)
    assert answer is not None
    assert answer[0] == 0xC000
    assert answers(node)


def test_compressed_pixels_without_their_end_are_refused(node, whole, tmp_path):
    dataset = pydicom.dcmread(io.BytesIO(whole[0]), force=True)
    dataset.file_meta.TransferSyntaxUID = EXPLICIT
    dataset.compress(JPEG_LS, generate_instance_uid=False)
    dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    content = data_set(tmp_path / "x.dcm")
    status, comment = store(node, content[:-300], whole[1], syntax=JPEG_LS)
    assert (status, comment) == (0xC000, "is cut off inside its pixel data")


def test_a_deflated_bomb_is_refused_before_it_inflates(node, whole):
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = (
        packer.compress(whole[0])
        + b"".join(packer.compress(b"\0" * 10**6) for _ in range(200))
        + packer.flush()
    )
    assert len(bomb) < 4e6
    status, comment = store(node, bomb, whole[1], syntax=DEFLATED)
    assert (status, comment) == (0xC000, "inflates to more than 4 MB")


def test_frames_without_number_are_refused_and_hold_up_nobody(node):
    content = hostile_files.empty_frames(200_000)
    start = 144 + int.from_bytes(content[140:144], "little")
    enhanced, sop_uid = "1.2.840.10008.5.1.4.1.1.2.1", f"{UID_ROOT}.1.1"
    answer = store(node, content[start:], sop_uid, syntax=DEFLATED, sop_class=enhanced)
    assert answer == (0xC000, "has a NumberOfFrames above 8192, the most in one object")
    # 1.6 MB, as many items as no slice has.
    content = hostile_files.items_in_a_slice(200_000)
    answer = store(node, content[start - 4 :], sop_uid)
    assert answer[0] == 0xC000
    assert "has a header of more than any CT image" in answer[1]
    assert answers(node)


def test_frames_are_read_in_a_process_of_its_own_which_is_made_anew_where_it_ends(node, tmp_path):
    enhanced = "1.2.840.10008.5.1.4.1.1.2.1"
    for number in range(2):
        dataset = enhanced_ct(slices_of(3))
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid("framed", number)
        content = data_set(save(dataset, tmp_path / "a.dcm"))
        assert store(node, content, dataset.SOPInstanceUID, sop_class=enhanced) == (0x0000, "")
        assert dataset.SOPInstanceUID in kept(node)
        (reader,) = [one for one in node.children() if b"arrival_worker" in command_line(one)]
        os.kill(reader, signal.SIGKILL)
        until(lambda ended=reader: command_line(ended) == b"")


def command_line(process):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""


def test_an_object_above_the_limit_ends_the_association_and_leaves_no_file(node, whole):
    assert store(node, whole[0] + b"\0" * 5_000_000, whole[1]) is None
    assert answers(node)
    assert until(lambda: not list((node.spool / "incoming").iterdir()))


def test_what_is_no_object_may_not_be_long(node):
    association = associate(node.port, contexts=[build_context(Verification)])
    piece = b"\0" * 100_000
    with contextlib.suppress(OSError):
        for _ in range(30):
            # P-DATA-TF with a fragment of a command that never ends (PS3.8 9.3.5).
            value = (
                struct.pack(">IBB", len(piece) + 2, association.accepted_contexts[0].context_id, 0x01) + piece
            )
            association.dul.socket.socket.sendall(struct.pack(">BBI", 4, 0, len(value)) + value)
    until(
        lambda: any(line["reason"] == "object above limit" for line in node.lines("association ended")[-1:])
    )
    association.abort()
    until(lambda: answers_if_it_can(node))


def test_a_slice_that_says_it_is_another_than_announced_is_refused(node, whole):
    assert store(node, whole[0], "1.2.3") == (0xC000, "has another SOPInstanceUID than was announced")
    assert store(node, whole[0], whole[1], sop_class="1.2.840.10008.5.1.4.1.1.2.1")[0] == 0xA900


def test_an_object_of_another_class_is_refused(node, whole):
    content = whole[0].replace(
        b"UI\x1a\x001.2.840.10008.5.1.4.1.1.2\0", b"UI\x1a\x001.2.840.10008.5.1.4.1.1.4\0", 1
    )
    assert content != whole[0]
    answer = store(node, content, whole[1], announced="1.2.840.10008.5.1.4.1.1.4")
    assert answer == (0xA900, "has another SOPClassUID than was announced")


def test_nesting_without_end_behind_the_pixels_is_left_out_of_an_object_in_another_vr(tmp_path, damaged):
    deep = b"\xfa\xff\xfa\xffSQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 3000
    content, sop_uid = wire(tmp_path / "deep", "deep")
    good, good_uid = wire(tmp_path / "good", "good")
    rule = 'name = "forward"\nweights = ""\noriginals = true\ndestinations = ["pacs"]'
    with (
        Recorder(syntaxes=[IMPLICIT]) as pacs,
        Node(tmp_path / "node", [("pacs", pacs.title, pacs.port)], rule=rule) as running,
    ):
        assert store(running, content + deep, sop_uid)[0] == 0x0000
        assert store(running, good, good_uid)[0] == 0x0000
        until(lambda: set(pacs.digests) == {sop_uid, good_uid})
    assert running.lines("dead letter") == []


def test_another_slice_of_the_same_uid_is_refused_and_the_same_slice_is_taken_twice(node, tmp_path):
    content, sop_uid = wire(tmp_path, "twice")
    other = content[:-2] + b"\1\0"
    assert store(node, content, sop_uid)[0] == 0x0000
    assert store(node, content, sop_uid)[0] == 0x0000
    assert store(node, other, sop_uid) == (0xC000, "has the UID of another object that is here already")
    assert len(node.journal(f"SELECT 1 FROM instance WHERE sop_uid = '{sop_uid}'")) == 1


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(garbage=st.binary(min_size=1, max_size=300))
@example(garbage=b"\x01\x00\xff\xff\xff\xff")
@example(garbage=b"\x04\x00\xff\xff\xff\xf0" + b"\0" * 100)
@example(garbage=b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
def test_bytes_that_are_no_dicom_end_their_connection_only(node, garbage):
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
        connection.sendall(garbage)
    assert node.process.poll() is None


def is_ended(connection):
    """Whether the other side has closed a connection; what it said before is read."""
    connection.settimeout(0.2)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@pytest.mark.parametrize(
    ("pieces", "established"),
    [
        (lambda request: [request[at : at + 1] for at in range(len(request))], False),
        (lambda request: [request, *[bytes([byte]) for byte in p_data(b"\0" * 1000)]], True),
        (lambda request: [request] + [p_data(b"\0")] * 1000, True),
    ],
    ids=["bytes of a request", "bytes of a PDU", "PDUs of a byte"],
)
def test_who_sends_a_byte_now_and_then_is_left(node, pieces, established):
    """Each byte comes long before the node loses patience, 2 s here; all of them would take minutes."""
    # Until it has counted down the connections of other tests, it turns this one away.
    until(lambda: answers_if_it_can(node))
    before = len(node.lines("association ended"))
    with socket.create_connection(("127.0.0.1", node.port), timeout=10) as connection:
        for piece in pieces(associate_request()):
            try:
                connection.sendall(piece)
            except OSError:
                break
            if is_ended(connection):
                break
        else:
            pytest.fail("it was listened to all the time")
    if established:
        # Before that pynetdicom's own timer may have been first.
        lines = until(lambda: node.lines("association ended")[before:])
        assert lines[0]["reason"] == "object comes too slowly"
    assert answers(node)


def test_an_address_has_its_share_of_associations_and_leaves_the_rest(tmp_path):
    limits = "[limits]\nkeep_free_gb = 0.01\nassociations = 3\nper_address = 2\n"
    rule = 'name = "keep"\ndestinations = []\nweights = ""'
    node = Node(tmp_path / "node", rule=rule, sections=limits)
    node.config.write_text(node.config.read_text().replace('["127.0.0.1"]', '["127.0.0.1", "127.0.0.2"]'))
    contexts = [build_context(Verification)]
    with node:
        held = [associate(node.port, contexts=contexts) for _ in range(2)]
        assert associate(node.port, contexts=contexts).is_rejected
        assert until(lambda: node.lines("association refused"))[-1]["reason"] == (
            "too many associations from this address"
        )
        silent = [socket.create_connection(("127.0.0.1", node.port), timeout=10) for _ in range(9)]
        line = until(lambda: node.lines("connection refused"))[0]
        assert line["reason"] == "too many connections from this address"
        elsewhere = socket.create_connection(("127.0.0.1", node.port), 10, source_address=("127.0.0.2", 0))
        elsewhere.sendall(associate_request())
        assert elsewhere.recv(1) == b"\x02"  # A-ASSOCIATE-AC
        for connection in (*silent, elsewhere):
            connection.close()
        for association in held:
            association.release()


def test_connections_that_say_nothing_are_ended_and_are_not_without_number(node):
    silent = [socket.create_connection(("127.0.0.1", node.port), timeout=10) for _ in range(40)]
    try:
        assert any(
            line["reason"] == "too many connections from this address"
            for line in until(lambda: node.lines("connection refused"))
        )
        until(lambda: answers_if_it_can(node))
    finally:
        for connection in silent:
            connection.close()


def test_one_association_too_many_is_rejected_and_comes_in_when_another_ends(node):
    until(lambda: answers_if_it_can(node))
    contexts = [build_context(Verification)]
    held = [associate(node.port, contexts=contexts) for _ in range(4)]
    try:
        assert all(association.is_established for association in held)
        assert associate(node.port, contexts=contexts).is_rejected
        assert until(lambda: node.lines("association refused"))[-1]["reason"] == "too many associations"
    finally:
        for association in held:
            association.release()
    until(lambda: answers_if_it_can(node))


def answers_if_it_can(node):
    try:
        return answers(node)
    except AssertionError:
        return False
