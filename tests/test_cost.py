import subprocess
import sys

import numpy as np
import pytest

from baselines.benchmark.cost import measured


def test_the_peak_memory_of_a_command_is_its_own():
    ballast = np.ones(50_000_000)  # 400 MB here, which a forked process would be charged with
    _, _, peak_mb = measured(sys.executable, "-c", "pass")
    assert ballast.nbytes == 400e6
    assert peak_mb < 100
    _, _, peak_mb = measured(sys.executable, "-c", "bytearray(b'x' * 300_000_000)")
    assert 300 < peak_mb < 800


def test_a_command_hands_over_what_it_printed_and_how_long_it_took():
    output, seconds, _ = measured(sys.executable, "-c", "import time; time.sleep(0.2); print('done')")
    assert output == "done\n"
    assert seconds > 0.2


def test_a_command_that_fails_is_no_measurement(capfd):
    with pytest.raises(subprocess.CalledProcessError):
        measured(sys.executable, "-c", "raise SystemExit('no such series')")
    assert "no such series" in capfd.readouterr().err
