"""Damaged DICOM files by chance: whatever is done to a file, the reader gives slices or a sentence, and soon.

    python -m tests.reader_fuzzing SECONDS [SEED]

Hypothesis draws the damage, in rounds of a hundred files, and shrinks what fails; the seed of the round is printed.
"""

import contextlib
import functools
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pydicom
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pydicom import uid

from kpn_tf.dicom import DicomError, find_series, read_slice
from kpn_tf.node.listener.arrival import read_arrival
from tests import hostile_files
from tests.dicom_fixtures import ct_dataset, save, twelve_bit_jpeg
from tests.enhanced_fixtures import enhanced_ct, slices_of

_ROUND = 100

# Of the CPU: ten times what the largest header allowed takes here, and what the largest file may take in memory.
MOST_S = 60.0
MOST_BYTES = 2_500_000_000

_SYNTAXES = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.JPEGLosslessSV1,
    uid.RLELossless,
)

# What headers are made of, and what they are not expected to hold where chance puts it.
_TOKENS = (
    hostile_files.ITEM,
    hostile_files.ITEM[:4] + b"\xff\xff\xff\xff",
    hostile_files.END_OF_ITEMS,
    b"\xfe\xff\x0d\xe0\0\0\0\0",
    b"SQ\0\0\xff\xff\xff\xff",
    b"UN\0\0\xff\xff\xff\xff",
    b"OB\0\0\xf0\xff\xff\x7f",
    b"\x00\x52\x30\x92",
    b"\xe0\x7f\x10\x00",
    b"\x28\x00\x08\x00IS\x06\x00999999",
    b"\x28\x00\x10\x00US\x02\x00\xff\xff",
    b"\xff\xff\xff\xff",
    b"\xff\x4f\xff\x51",
    b"\xff\xd9",
    b"\0" * 64,
)


@functools.cache
def whole_files():
    """Sound files, one of each kind, by name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.dcm")
        files = {syntax.name: save(ct_dataset(), path, syntax).read_bytes() for syntax in _SYNTAXES}
        files["12-bit JPEG"] = twelve_bit_jpeg(path).read_bytes()
        for syntax in (*_SYNTAXES[:2], uid.DeflatedExplicitVRLittleEndian):
            files[f"Enhanced, {syntax.name}"] = save(enhanced_ct(slices_of(3)), path, syntax).read_bytes()
    files["deflated frames"] = hostile_files.empty_frames(50)
    return files


_BYTES = st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from(_TOKENS))
# Most of what can go wrong is in the header.
_AT = st.one_of(st.integers(0, 400), st.integers(0, 2500), st.integers(0, 60_000))
_DAMAGE = st.one_of(
    st.tuples(st.just("overwrite"), _AT, _BYTES),
    st.tuples(st.just("insert"), _AT, _BYTES),
    st.tuples(st.just("remove"), _AT, st.integers(1, 40)),
    st.tuples(st.just("cut off"), _AT, st.just(None)),
    st.tuples(st.just("repeat"), _AT, st.tuples(st.integers(1, 64), st.sampled_from([2, 50, 20_000]))),
)


def damaged(content, damages):
    """Applies damages to a file's bytes; those to a deflated file are done to what it inflates to."""
    meta, elements = _inflated(content)
    content = bytearray(meta + elements)
    for kind, at, what in damages:
        at %= len(content) or 1
        if kind == "overwrite":
            content[at : at + len(what)] = what
        elif kind == "insert":
            content[at:at] = what
        elif kind == "remove":
            del content[at : at + what]
        elif kind == "cut off":
            del content[at:]
        else:
            length, times = what
            content[at:at] = bytes(content[at : at + length]) * times
    return hostile_files.deflated(content[: len(meta)], content[len(meta) :]) if meta else bytes(content)


def _inflated(content):
    if uid.DeflatedExplicitVRLittleEndian.encode() not in content[:400]:
        return b"", content
    start = 144 + int.from_bytes(content[140:144], "little")
    return content[:start], hostile_files.inflated(content[start:])


def peak_bytes():
    """Peak memory of this process. Not `ru_maxrss`: on Linux that starts with the peak of the process that began it."""
    return int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def read_everything(path):
    """Reads a file as `kpn denoise` and the node do. Anything but `DicomError` is a fault; so is a warning, which could
    quote what is in the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            syntax = pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID
        except Exception:
            syntax = uid.ImplicitVRLittleEndian
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, _ = find_series(path)
        for slice_file in [one for series in found for one in series.slices][:3]:
            with contextlib.suppress(DicomError):
                ct = read_slice(slice_file.path, slice_file.frame)
                assert np.isfinite(ct.slice_hu).all()
                assert ct.slice_hu.shape == (ct.dataset.Rows, ct.dataset.Columns)
        with contextlib.suppress(DicomError):
            read_arrival(path, syntax, "FUZZ", largest=10**8)
    assert time.process_time() - began < MOST_S
    assert peak_bytes() < MOST_BYTES


def main(seconds, first_seed=0):
    """Fuzzes for so long; returns how many files were read."""
    files, count, number = whole_files(), 0, first_seed
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.dcm")

        def one_file(name, damages):
            nonlocal count
            if time.monotonic() < end:
                path.write_bytes(damaged(files[name], damages))
                read_everything(path)
                count += 1

        while time.monotonic() < end:
            number += 1
            case = given(st.sampled_from(sorted(files)), st.lists(_DAMAGE, min_size=1, max_size=5))(one_file)
            case = settings(
                max_examples=_ROUND,
                database=None,
                deadline=None,
                derandomize=False,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            )(case)
            try:
                seed(number)(case)()
            except BaseException:
                print(f"seed {number}", file=sys.stderr)
                raise
    return count


if __name__ == "__main__":
    print(f"{main(float(sys.argv[1]), *map(int, sys.argv[2:]))} files read")
