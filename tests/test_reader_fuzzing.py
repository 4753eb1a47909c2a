"""Files damaged by chance, for a few seconds, or for as many as KPN_FUZZ_S says: `make test` has a minute."""

import os
import subprocess
import sys


def test_whatever_is_done_to_a_file_the_reader_gives_slices_or_a_sentence():
    # In a process of its own: decoders are native code.
    call = [sys.executable, "-m", "tests.reader_fuzzing", os.environ.get("KPN_FUZZ_S", "5")]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    assert int(done.stdout.split()[0]) > 0
