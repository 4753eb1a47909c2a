"""What files and senders that ask for much cost: `python -m benchmarks.attacks [BEFORE]`, the table of docs/attacks.md.

BEFORE is another checkout, to compare with. Times are those of the CPU: other programs do not count.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

from tests import hostile_files
from tests.ct_series import write_ct_series
from tests.node_peers import EXPLICIT, Node, associate_request, p_data, send, store

HERE = Path(__file__).parents[1]

# What takes longer is ended.
MOST_S = 75.0

DEFLATED = "1.2.840.10008.1.2.1.99"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
CT = "1.2.840.10008.5.1.4.1.1.2"

# What is sent, transfer syntax, SOP class, files (each in the place of the next UID), how many.
FILES = {
    "an ordinary slice of 512 × 512": (lambda: hostile_files.ordinary(512), EXPLICIT, CT, 1),
    "200,000 frames without pixels, deflated": (
        lambda: hostile_files.empty_frames(200_000), DEFLATED, f"{CT}.1", 1,
    ),
    "8,192 frames without pixels, deflated: the most that are allowed": (
        lambda: hostile_files.empty_frames(8192), DEFLATED, f"{CT}.1", 1,
    ),
    "200,000 empty items in a slice": (lambda: hostile_files.items_in_a_slice(200_000), EXPLICIT, CT, 1),
    "40 MB of zeros behind the pixels, deflated": (
        lambda: hostile_files.deflated_zeros_behind_the_pixels(40_000_000), DEFLATED, CT, 1,
    ),
    "a slice that inflates to 700 MB": (lambda: hostile_files.inflating_to(700_000_000), DEFLATED, CT, 1),
    "4 slices of 8192 × 8192, deflated": (lambda: hostile_files.deflated_slice(8192), DEFLATED, CT, 4),
    "4 slices of 4096 × 4096, deflated: the largest that are allowed": (
        lambda: hostile_files.deflated_slice(4096), DEFLATED, CT, 4,
    ),
    "JPEG 2000 of 58,081 tiles, one of which is there": (
        lambda: hostile_files.jpeg_2000_of_tiles(4096, 17), JPEG_2000, CT, 1,
    ),
}  # fmt: skip


def main(before=None):
    """Prints the table, a row as soon as it is measured."""
    checkouts = [Path(before).absolute(), HERE] if before else [HERE]
    print("| what | bytes | `kpn denoise` | node | its processes |\n|---|---|---|---|---|")
    for what, (made, syntax, sop_class, count) in FILES.items():
        contents = list(_numbered(made(), count))
        denoise, node, processes = [], [], []
        for checkout in checkouts:
            os.environ["PYTHONPATH"] = str(checkout)
            with tempfile.TemporaryDirectory() as folder:
                denoise.append(_denoise(Path(folder), contents))
                own, others = _sent(Path(folder), contents, syntax, sop_class)
            node.append(own)
            processes.append(others)
        cells = (" → ".join(cell) for cell in (denoise, node, processes))
        print(f"| {what} | {sum(map(len, contents)):,} | {' | '.join(cells)} |", flush=True)
    print("\n| what | measured |\n|---|---|")
    bombs, slow = [], []
    for checkout in checkouts:
        os.environ["PYTHONPATH"] = str(checkout)
        with tempfile.TemporaryDirectory() as folder:
            bombs.append(_bomb(Path(folder)))
            slow.append(_slow_sender(Path(folder)))
    print(
        f"| a .tflite of 0.3 MB whose metadata.json inflates to 300 MB, `kpn denoise` | {' → '.join(bombs)} |"
    )
    print(f"| a sender of a byte every half second, `timeout_s = 2` | {' → '.join(slow)} |")


def _numbered(content, count):
    """Copies of a file that differ in their UID."""
    old = hostile_files.SOP_UID.encode()
    for number in range(count):
        new = hostile_files.SOP_UID[:-1] + str(number + 1)
        if old in content[400:]:
            yield content[:400] + content[400:].replace(old, new.encode())
        else:
            start = 144 + int.from_bytes(content[140:144], "little")
            elements = hostile_files.inflated(content[start:]).replace(old, new.encode())
            yield hostile_files.deflated(content[:start], elements)


def _denoise(folder, contents):
    (folder / "in").mkdir()
    for number, content in enumerate(contents):
        (folder / "in" / f"{number}.dcm").write_bytes(content)
    return _called("denoise", folder / "in", folder / "out", "--threads", "1")


# In a small process: what a process takes begins at what its parent has.
_MEASURE = """
import resource, subprocess, sys
try:
    subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=float(sys.argv[1]))
    ended = 0
except subprocess.TimeoutExpired:
    ended = 1
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, ended)
"""


def _called(*words):
    """Seconds and MB of a call of kpn and of what it starts."""
    call = [sys.executable, "-P", "-m", "kpn_tf.cli", *map(str, words)]
    measure = [sys.executable, "-c", _MEASURE, str(MOST_S), *call]
    told = subprocess.run(measure, capture_output=True, text=True, check=True).stdout.split()
    return _cost(float(told[0]), float(told[1]), ended=told[2] == "1")


def _sent(folder, contents, syntax, sop_class):
    """Costs of a node in whose hands files are, until it has denoised a good series that came after them."""
    node = Node(
        folder / "node", node="threads = 1", sections="[limits]\nkeep_free_gb = 0.01\ntimeout_s = 120\n"
    )
    with node:
        own, others = _used(node.process.pid), _used_by(node.children())
        senders = [
            threading.Thread(target=_stored, args=(node, content, number, syntax, sop_class), daemon=True)
            for number, content in enumerate(contents, start=1)
        ]
        for sender in senders:
            sender.start()
        end = time.monotonic() + MOST_S
        for sender in senders:
            sender.join(max(0.0, end - time.monotonic()))
        with contextlib.suppress(Exception):
            send(node.port, write_ct_series(folder / "good", name="good", slices=3))
        seen = {}
        while time.monotonic() < end and not any(line["slices"] == 3 for line in node.lines("denoised")):
            seen |= {child: _used(child) for child in node.children()}
            time.sleep(0.2)
        seen |= {child: _used(child) for child in node.children()}
        ended = time.monotonic() >= end
        seconds, largest = _used(node.process.pid)
        result = (
            _cost(seconds - own[0], largest, ended=ended),
            _cost(
                sum(one[0] for one in seen.values()) - others[0],
                max(one[1] for one in seen.values()),
                ended=ended,
            ),
        )
        node.kill()
    return result


def _stored(node, content, number, syntax, sop_class):
    start = 144 + int.from_bytes(content[140:144], "little")
    with contextlib.suppress(Exception):
        store(
            node,
            content[start:],
            hostile_files.SOP_UID[:-1] + str(number),
            syntax=syntax,
            sop_class=sop_class,
        )


def _used(process):
    """Seconds of the CPU and most MB of memory of a process so far; those of one that has ended are lost."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0, 0.0
    largest = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK"), int(largest[0]) / 1024 if largest else 0.0


def _used_by(processes):
    used = [_used(process) for process in processes]
    return sum(one[0] for one in used), max((one[1] for one in used), default=0.0)


def _bomb(folder):
    network = folder / "bomb.tflite"
    with zipfile.ZipFile(network, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", b" " * 300_000_000)
    write_ct_series(folder / "ct", slices=1)
    return _called("denoise", folder / "ct", folder / "out", "--weights", network)


def _slow_sender(folder):
    """How long a node listens to a sender that gets nowhere."""
    sections = "[limits]\nkeep_free_gb = 0.01\ntimeout_s = 2\n"
    rule = 'name = "keep"\ndestinations = []\nweights = ""'
    with (
        Node(folder / "slow", rule=rule, sections=sections) as node,
        socket.create_connection(("127.0.0.1", node.port)) as connection,
    ):
        connection.settimeout(0.5)
        connection.sendall(associate_request())
        while not connection.recv(1024):
            pass
        began, slow = time.monotonic(), iter(p_data(b"\0" * 1000))
        while time.monotonic() - began < 30.0:
            try:
                connection.sendall(bytes([next(slow)]))
                if not connection.recv(1):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        waited_s = time.monotonic() - began
        return f"{'more than ' if waited_s >= 30.0 else ''}{waited_s:.0f} s"


def _cost(seconds, megabytes, *, ended):
    return f"{'more than ' if ended else ''}{seconds:.1f} s, {megabytes:.0f} MB"


if __name__ == "__main__":
    main(*sys.argv[1:])
