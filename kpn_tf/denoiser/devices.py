"""What this machine computes with: the CPU, its cores, and how many threads a slice is given."""

import os
import platform
from pathlib import Path

# What can be asked for; "auto" is settled when a network is loaded.
DEVICES = ("cpu", "gpu", "auto")

# Beyond four threads a 512x512 slice gains little, and a workstation has other work to do.
MOST_THREADS = 4

_CPU_FOLDER = Path("/sys/devices/system/cpu")


def physical_cores():
    """Counts the physical cores this process may run on.

    Two hyper-threads of one core share its arithmetic units, so a second thread on it only costs memory.

    Returns:
        A positive integer; the number of logical processors where the system does not tell them apart.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    siblings = set()
    for cpu in allowed:
        listing = _CPU_FOLDER / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        try:
            siblings.add(listing.read_text(encoding="utf-8").strip())
        except OSError:
            siblings.add(str(cpu))
    return len(siblings)


def default_threads():
    """Returns the number of threads a denoiser takes when nobody says: physical cores, at most four."""
    return min(MOST_THREADS, physical_cores())


def cpu_name():
    """Returns the CPU's model name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
