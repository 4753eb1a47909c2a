"""What files and senders that ask for much cost: the tables of docs/attacks.md.

    python -m benchmarks.attacks [BEFORE] [--limit SECONDS]

BEFORE is another checkout, to compare with; what takes it more than `--limit` seconds is ended, and said to. Times are
those of the CPU: other programs do not count.
"""

import argparse
import contextlib
import os
import signal
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

# Options are called here as in the version before, where they have other names now.

# Of the CPU: what takes this checkout longer is ended.
MOST_S = 300.0

# Of the clock: what has waited so much longer will wait for ever.
PATIENCE = 10.0

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


def main():
    """Prints the tables, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attacks")
    parser.add_argument("before", nargs="?", type=Path, help="another checkout, to compare with")
    parser.add_argument(
        "--limit", type=float, default=60.0, help="seconds of the CPU it gets for each (default 60)"
    )
    options = parser.parse_args()
    checkouts = {HERE: MOST_S}
    if options.before:
        checkouts = {options.before.absolute(): options.limit, **checkouts}
    print("| what | bytes | `kpn denoise` | node | its processes |\n|---|---|---|---|---|")
    for what, (made, syntax, sop_class, count) in FILES.items():
        contents = list(_numbered(made(), count))
        denoise, node, processes = [], [], []
        for checkout, most_s in checkouts.items():
            os.environ["PYTHONPATH"] = str(checkout)
            with tempfile.TemporaryDirectory() as folder:
                denoise.append(_denoise(Path(folder), contents, most_s))
                own, others = _sent(Path(folder), contents, syntax, sop_class, most_s)
            node.append(own)
            processes.append(others)
        cells = (" → ".join(cell) for cell in (denoise, node, processes))
        print(f"| {what} | {sum(map(len, contents)):,} | {' | '.join(cells)} |", flush=True)
    print("\n| what | measured |\n|---|---|")
    bombs, slow = [], []
    for checkout, most_s in checkouts.items():
        os.environ["PYTHONPATH"] = str(checkout)
        with tempfile.TemporaryDirectory() as folder:
            bombs.append(_bomb(Path(folder), most_s))
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


def _denoise(folder, contents, most_s):
    (folder / "in").mkdir()
    for number, content in enumerate(contents):
        (folder / "in" / f"{number}.dcm").write_bytes(content)
    return _called(most_s, "denoise", folder / "in", folder / "out", "--threads", "1")


def _called(most_s, *words):
    """Seconds and MB of a call of kpn and of what it starts."""
    call = [sys.executable, "-P", "-m", "kpn_tf.cli", *map(str, words)]
    process = subprocess.Popen(
        call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    meter, end = _Meter(), time.monotonic() + PATIENCE * most_s
    while process.poll() is None and meter.seconds < most_s and time.monotonic() < end:
        meter.look(*_family(process.pid))
        time.sleep(_LOOK_S)
    ended = process.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return _cost(meter.seconds, meter.megabytes, ended=ended)


def _family(process):
    """A process and all that it and they have started."""
    files = Path(f"/proc/{process}/task").glob("*/children")
    with contextlib.suppress(OSError):
        return [
            process,
            *(one for file in files for child in file.read_text().split() for one in _family(child)),
        ]
    return [process]


# Between two looks at what processes have taken: what they take after the last look is not counted.
_LOOK_S = 0.05


class _Node(Node):
    option = ("--config",)


class _Meter:
    """What processes and their descendants have taken, looked at now and then."""

    def __init__(self, *, without=()):
        self._used, self._without = {}, {one: _used(one)[0] for one in without}

    def look(self, *processes):
        for one in processes:
            seconds, megabytes = _used(one)
            before = self._used.get(one, (0.0, 0.0))
            self._used[one] = max(before[0], seconds), max(before[1], megabytes)

    @property
    def seconds(self):
        """Of the CPU, without what some had taken before."""
        return sum(seconds - self._without.get(one, 0.0) for one, (seconds, _) in self._used.items())

    @property
    def megabytes(self):
        """Of the largest process."""
        return max((megabytes for _, megabytes in self._used.values()), default=0.0)


def _sent(folder, contents, syntax, sop_class, most_s):
    """Costs of a node in whose hands files are, until it has denoised a good series that came after them."""
    node = _Node(
        folder / "node", node="threads = 1", sections="[limits]\nkeep_free_gb = 0.01\ntimeout_s = 120\n"
    )
    with node:
        own, others = _used(node.process.pid), _Meter(without=_family(node.process.pid)[1:])
        senders = [
            threading.Thread(target=_stored, args=(node, content, number, syntax, sop_class), daemon=True)
            for number, content in enumerate(contents, start=1)
        ]
        good = threading.Thread(target=_sent_after, args=(node, senders, folder), daemon=True)
        for sender in (*senders, good):
            sender.start()
        end, ended = time.monotonic() + PATIENCE * most_s, False
        while not ended and not any(line["slices"] == 3 for line in node.lines("denoised")):
            others.look(*_family(node.process.pid)[1:])
            seconds, megabytes = _used(node.process.pid)
            ended = seconds - own[0] + others.seconds > most_s or time.monotonic() > end
            time.sleep(_LOOK_S)
        result = (
            _cost(seconds - own[0], megabytes, ended=ended),
            _cost(others.seconds, others.megabytes, ended=ended),
        )
        node.kill()
    return result


def _sent_after(node, senders, folder):
    for sender in senders:
        sender.join()
    with contextlib.suppress(Exception):
        send(node.port, write_ct_series(folder / "good", name="good", slices=3))


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
    """Seconds of the CPU and most MB of memory of a process so far; zeros of one that has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0, 0.0
    largest = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK"), int(largest[0]) / 1024 if largest else 0.0


def _bomb(folder, most_s):
    network = folder / "bomb.tflite"
    with zipfile.ZipFile(network, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("metadata.json", b" " * 300_000_000)
    write_ct_series(folder / "ct", slices=1)
    return _called(most_s, "denoise", folder / "ct", folder / "out", "--network", network)


def _slow_sender(folder):
    """How long a node listens to a sender that gets nowhere."""
    sections = "[limits]\nkeep_free_gb = 0.01\ntimeout_s = 2\n"
    rule = 'name = "keep"\ndestinations = []\npreset = ""'
    with (
        _Node(folder / "slow", rule=rule, sections=sections) as node,
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
    main()
