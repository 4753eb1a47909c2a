"""The command line tells what happened in lines, JSON and exit status, and nothing about the patient."""

import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest

from kpn_tf.cli import commands, extras
from kpn_tf.denoiser import artefact
from kpn_tf.trained import DEFAULT_WEIGHTS, TRAINED
from tests.command import BOX, kpn
from tests.ct_series import write_ct_series
from tests.test_stack_jobs import paired_network

BOX_64 = BOX.with_name("box_64.tflite")


@pytest.fixture(autouse=True)
def weights(tmp_path_factory, monkeypatch):
    """An installation whose default weights are the 7x7 mean."""
    folder = tmp_path_factory.mktemp("weights")
    shutil.copy(BOX, folder / f"{DEFAULT_WEIGHTS}.tflite")
    monkeypatch.setattr(artefact, "WEIGHTS_FOLDER", folder)
    return folder


def start(weights, *words, before=""):
    """Starts `kpn` in a process of its own."""
    code = (
        "import sys, pathlib\n"
        "from kpn_tf import cli\nfrom kpn_tf.denoiser import artefact\n"
        f"artefact.WEIGHTS_FOLDER = pathlib.Path({str(weights)!r})\n"
        f"{before}\n"
        "sys.exit(cli.main())"
    )
    command = [sys.executable, "-c", code, *map(str, words)]
    # Where the tests run in the background of a shell, Ctrl-C is ignored, and children inherit that.
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


SLOW = """
import time
from kpn_tf.batch import pipeline
read = pipeline.read_slice
pipeline.read_slice = lambda *file: (time.sleep(0.05), read(*file))[1]
"""


def wait_for_a_slice(output, process):
    """Waits until the process has written its first slice somewhere below the output."""
    deadline = time.monotonic() + 300
    while not list(output.rglob("*.dcm")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_good_run_is_status_zero_and_a_line_per_series(tmp_path, capfd):
    write_ct_series(tmp_path / "in", name="a", slices=2)
    write_ct_series(tmp_path / "in", name="bb", slices=3, kernel="D45f")
    assert kpn("denoise", tmp_path / "in", tmp_path / "out") == 0
    out, err = capfd.readouterr()
    assert err == ""
    first, second, summary = sorted(out.splitlines(), key=lambda line: not line.startswith("series"))
    lines = " | ".join(sorted([first, second], key=lambda line: "D45f" in line))
    number = r"\d+\.\d"
    assert re.search(
        rf"\(B30f\): 2 slices, noise {number} -> {number} HU, {number}+ s/slice -> .*out/2\.", lines
    )
    assert re.search(r"\(D45f\): 3 slices, ", lines)
    assert summary.startswith("2 series, 5 slices in ")


def test_json_is_one_document_with_everything_of_the_summary(tmp_path, capfd):
    write_ct_series(tmp_path / "in", slices=2)
    (tmp_path / "in" / "SOURCE.txt").write_text("words")
    assert (
        kpn("denoise", tmp_path / "in", tmp_path / "out", "--json", "--strength", "0.5", "--threads", "1")
        == 0
    )
    out, err = capfd.readouterr()
    document = json.loads(out)
    (series,) = document.pop("series")
    assert len(err.splitlines()) == 1
    assert set(document) == {
        "kpn_tf", "network", "threads", "device", "adapter", "device_note",
        "ok", "seconds", "slices_written", "stopped", "refusals",
    }  # fmt: skip
    assert (document["ok"], series["strength"], document["threads"]) == (True, 0.5, 1)
    assert (document["device"], document["adapter"], document["device_note"]) == ("cpu", None, None)
    assert document["network"]["model"] == "standin-box"
    assert document["slices_written"] == 2
    assert [refusal["failure"] for refusal in document["refusals"]] == [False]
    assert set(series) == {
        "source", "kernel", "outcome", "slices", "written", "kept", "derived_uid", "place",
        "noise_before_hu", "noise_after_hu", "seconds_per_slice", "inference_seconds_per_slice", "reason",
        "outside", "strength", "wanted_noise_hu", "grain_per_mm", "measured_sha256",
    }  # fmt: skip
    assert series["outcome"] == "written"
    assert series["place"] == series["derived_uid"]
    assert (tmp_path / "out" / series["place"]).is_dir()


def test_every_field_of_the_json_is_in_the_guide(tmp_path, capfd):
    write_ct_series(tmp_path / "in", slices=1)
    kpn("denoise", tmp_path / "in", tmp_path / "out", "--json")
    document = json.loads(capfd.readouterr().out)
    guide = (Path(__file__).parents[1] / "docs" / "denoise.md").read_text()
    for field in [*document, *document["network"], *document["series"][0], "path", "reason", "failure"]:
        assert f"`{field}`" in guide, field


def test_an_exported_network_is_taken_by_its_path(tmp_path, capfd, weights):
    own = shutil.move(weights / f"{DEFAULT_WEIGHTS}.tflite", tmp_path / "own.tflite")
    write_ct_series(tmp_path / "in", slices=1)
    assert kpn("denoise", tmp_path / "in", tmp_path / "out", "--weights", own, "--json") == 0
    network = json.loads(capfd.readouterr().out)["network"]
    assert network["file_sha256"] == artefact.open_artefact(own).file_sha256


def test_nothing_of_the_patient_is_printed(tmp_path, capfd):
    paths = write_ct_series(tmp_path / "in", slices=3)
    paths[1].write_bytes(paths[1].read_bytes()[:-700])
    for words in (["--json"], []):
        kpn("denoise", tmp_path / "in", tmp_path / f"out{len(words)}", *words)
        printed = "".join(capfd.readouterr())
        source = pydicom.dcmread(paths[0])
        for secret in ("Secret", "ID-0815", "19700101", source.SeriesInstanceUID, source.StudyInstanceUID):
            assert secret not in printed


def test_a_corrupt_slice_is_one_line_with_its_name_and_status_one(tmp_path, capfd):
    paths = write_ct_series(tmp_path / "in", slices=4)
    paths[2].write_bytes(paths[2].read_bytes()[:-700])
    assert kpn("denoise", tmp_path / "in", tmp_path / "out") == 1
    out, err = capfd.readouterr()
    assert err.count("\n") == 1
    assert err.startswith(f"failed: {paths[2]}: ")
    assert "3 of 4 slices" in out


def test_what_is_no_ct_is_one_line_and_status_zero(tmp_path, capfd):
    write_ct_series(tmp_path / "in", slices=1)
    (tmp_path / "in" / "SOURCE.txt").write_text("words")
    assert kpn("denoise", tmp_path / "in", tmp_path / "out") == 0
    out, err = capfd.readouterr()
    assert err.startswith(f"skipped: {tmp_path / 'in' / 'SOURCE.txt'}: ")
    assert err.count("\n") == 1
    assert out.splitlines()[-1].endswith("; files skipped: 1")


def test_nothing_denoised_is_status_one_and_said(tmp_path, capfd):
    (tmp_path / "in").mkdir()
    assert kpn("denoise", tmp_path / "in", tmp_path / "out") == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "kpn denoise: nothing was denoised\n"


def test_an_existing_series_is_one_line_and_status_one(tmp_path, capfd):
    write_ct_series(tmp_path / "in", slices=1)
    kpn("denoise", tmp_path / "in", tmp_path / "out")
    capfd.readouterr()
    assert kpn("denoise", tmp_path / "in", tmp_path / "out") == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert re.search(
        r"^failed: series .*/2\.25\.\d+ exists already and is never overwritten$", err, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "required: COMMAND"),
        (["denoise"], "required: INPUT, OUTPUT"),
        (["denoise", "IN", "OUT", "--strength", "1.5"], "argument --strength: expected a number from 0 to 1"),
        (["denoise", "IN", "OUT", "--strength", "nan"], "argument --strength: expected a number from 0 to 1"),
        (["denoise", "IN", "OUT", "--threads", "0"], "argument --threads: expected a whole number from 1 on"),
        (
            ["denoise", "IN", "OUT", "--device", "tpu"],
            "--device: expected one of cpu, gpu, auto, received tpu",
        ),
        (["denoise", "IN/absent", "OUT"], "IN/absent, which does not exist"),
        (["denoise", "IN", "IN/a000.dcm"], "a000.dcm, which is a file"),
        (["denoise", "", "OUT"], "argument INPUT: expected a file or a folder, received an empty word"),
        (["denoise", "IN", ""], "argument OUTPUT: expected a file or a folder, received an empty word"),
        (["denoize", "IN", "OUT"], "invalid choice: 'denoize'"),
    ],
)
def test_a_wrong_call_is_status_two_and_says_why(tmp_path, capfd, words, complaint):
    write_ct_series(tmp_path / "in", slices=1)
    places = {"IN": str(tmp_path / "in"), "OUT": str(tmp_path / "out")}

    def placed(text):
        return re.sub(r"^(IN|OUT)\b", lambda match: places[match[1]], text)

    assert kpn(*map(placed, words)) == 2
    assert placed(complaint) in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "call", ["denoise IN out", "denoise IN out --watch", "report IN out.html", "study IN out"]
)
def test_weights_that_are_not_there_are_a_wrong_call_and_one_line(tmp_path, monkeypatch, capfd, call):
    monkeypatch.chdir(tmp_path)
    write_ct_series(tmp_path / "IN", slices=1)
    words = call.split()
    for weights in ("egde", tmp_path / "egde.tflite"):
        assert kpn(*words, "--weights", weights) == 2
        assert capfd.readouterr().err == (
            f"kpn: Expected the name of shipped weights (stack) or a .tflite. Received: {weights}\n"
        )
    (tmp_path / "words.tflite").write_text("words")
    assert kpn(*words, "--weights", tmp_path / "words.tflite") == 2
    assert f"{tmp_path / 'words.tflite'}" in capfd.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"IN", "words.tflite"}


def test_an_installation_without_weights_says_so_in_one_line(tmp_path, capfd, weights):
    (weights / f"{DEFAULT_WEIGHTS}.tflite").unlink()
    write_ct_series(tmp_path / "in", slices=1)
    assert kpn("denoise", tmp_path / "in", tmp_path / "out") == 2
    assert capfd.readouterr().err == (
        f"kpn: Expected the name of shipped weights (none) or a .tflite. Received: {DEFAULT_WEIGHTS}\n"
    )


def test_names_that_would_drive_the_terminal_are_escaped(tmp_path, capfd):
    write_ct_series(tmp_path / "in", slices=1, kernel="B30\x1b[2J")
    (tmp_path / "in" / "two\nlines\udcff.txt").write_text("words")
    assert kpn("denoise", tmp_path / "in", tmp_path / "out") == 0
    out, err = capfd.readouterr()
    assert "\x1b" not in out + err
    assert "two\\nlines\\udcff.txt" in err


def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path, weights, monkeypatch):
    write_ct_series(tmp_path / "Müller", slices=1)
    (tmp_path / "Müller" / "Größe.txt").write_text("words")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    process = start(weights, "denoise", tmp_path / "Müller", tmp_path / "out")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert r"M\xfcller/Gr\xf6\xdfe.txt" in err
    assert out.startswith("series ")


def test_the_module_runs_like_the_script():
    run = subprocess.run([sys.executable, "-m", "kpn_tf.cli", "--version"], capture_output=True, check=True)
    assert run.stdout.startswith(b"kpn_tf ")


def test_a_progress_bar_is_shown_on_a_terminal_only(tmp_path, capfd, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    write_ct_series(tmp_path / "in", slices=2)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    kpn("denoise", tmp_path / "in", tmp_path / "out")
    assert "2/2" in terminal.getvalue() or "0/2" in terminal.getvalue()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_and_says_so(tmp_path, weights, number):
    write_ct_series(tmp_path / "in", slices=80)
    process = start(weights, "denoise", tmp_path / "in", tmp_path / "out", before=SLOW)
    wait_for_a_slice(tmp_path / "out", process)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert re.fullmatch(r"kpn: (interrupted|terminated)\n", err)
    assert out == ""
    assert list((tmp_path / "out").iterdir()) == []


def test_a_killed_run_shows_no_partial_series_and_the_next_one_completes(tmp_path, weights, capfd):
    write_ct_series(tmp_path / "in", slices=40)
    process = start(weights, "denoise", tmp_path / "in", tmp_path / "out", before=SLOW)
    wait_for_a_slice(tmp_path / "out", process)
    process.kill()
    process.communicate()
    assert [path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")] == []
    assert kpn("denoise", tmp_path / "in", tmp_path / "out") == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert len(list(folder.iterdir())) == 40


def test_a_full_disk_is_one_sentence_and_the_partial_series_is_removed(tmp_path, weights):
    write_ct_series(tmp_path / "in", slices=3)
    # No file may grow over 2 kB: for the writer the same as a disk that is full.
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))"
    process = start(weights, "denoise", tmp_path / "in", tmp_path / "out", before=limit)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert out == ""
    assert err.splitlines()[-1] == (
        f"kpn denoise: stopped: cannot write to {tmp_path / 'out'}: {os.strerror(27)}"
    )
    assert "Traceback" not in err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_reader_that_goes_away_is_no_traceback(tmp_path, weights):
    write_ct_series(tmp_path / "in", slices=2)
    process = start(weights, "denoise", tmp_path / "in", tmp_path / "out")
    process.stdout.close()
    err = process.stderr.read()
    process.wait(timeout=300)
    process.stderr.close()
    assert process.returncode == 1
    assert "Traceback" not in err


def test_info_tells_versions_devices_and_networks(capfd, weights):
    assert kpn("info", "--json") == 0
    about = json.loads(capfd.readouterr().out)
    assert about["versions"]["ai-edge-litert"]
    cpu, gpu = about["devices"]
    assert cpu["device"] == "CPU"
    assert gpu == {
        "device": "GPU", "name": None, "software": None, "self_test": None,
        "reason": "no network of fixed size is installed",
    }  # fmt: skip
    network, *others = about["networks"]
    assert network["name"] == DEFAULT_WEIGHTS
    assert network["file_sha256"] == artefact.open_artefact(DEFAULT_WEIGHTS).file_sha256
    assert (network["parameters"], network["gmac_512"], network["licence"]) == (0, 0.0128, "Apache-2.0")
    assert network["bytes"] == BOX.stat().st_size
    assert (network["fixed_form"], network["default"], network["alone"]) == (None, True, None)
    assert network["training"] == TRAINED[DEFAULT_WEIGHTS].training
    assert network["keras"]["file"] == f"{DEFAULT_WEIGHTS}.keras"
    kept, (paper,) = TRAINED["paper"], [one for one in others if one["name"] == "paper"]
    assert paper == {
        "name": "paper", "model": "StructKPN-paper", "parameters": 1_981_763, "gmac_512": 518.12,
        "version": None, "file_sha256": None, "weights_sha256": kept.weights_sha256, "bytes": None,
        "licence": "Apache-2.0", "training": kept.training, "training_data": None, "fixed_form": None,
        "default": False, "alone": None,
        "keras": {
            "file": "paper-k21-structure.keras", "file_sha256": kept.file_sha256,
            "weights_sha256": kept.weights_sha256, "bytes": kept.path.stat().st_size,
        },
    }  # fmt: skip
    assert [other["name"] for other in others] == [name for name in TRAINED if name != DEFAULT_WEIGHTS]


def test_info_in_lines_says_the_same(capfd, weights, monkeypatch):
    shutil.copy(BOX_64, weights / f"{DEFAULT_WEIGHTS}_64.tflite")
    monkeypatch.setattr(artefact, "FIXED_SIDE", 64)
    # Vulkan, where it is installed, finds no driver.
    monkeypatch.setenv("VK_ICD_FILENAMES", "/nonexistent")
    assert kpn("info") == 0
    out = capfd.readouterr().out
    assert re.search(r"^kpn_tf \d+\.\d+\.\d+$", out, re.MULTILINE)
    assert re.search(r"^device CPU: .+, \d+ physical cores, \d threads by default$", out, re.MULTILINE)
    assert "device GPU: not used: LiteRT finds no GPU that it can use\n" in out
    assert "0 parameters, 0.0128 GMAC per 512x512 slice, version 1, " in out
    fixed = artefact.open_artefact(f"{DEFAULT_WEIGHTS}_64")
    hashes = f"file sha256 {fixed.file_sha256}, weights sha256 ?"
    assert f"; for the GPU {DEFAULT_WEIGHTS}_64, 64x64, {BOX_64.stat().st_size} bytes, {hashes}; " in out
    assert (
        "network paper: StructKPN-paper, 1981763 parameters, 518.12 GMAC per 512x512 slice, for kpn denoise: "
        f"export it; trained for {TRAINED['paper'].training}; for Keras paper-k21-structure.keras, " in out
    )


def test_info_names_every_network_once_with_or_without_a_file_for_denoising(capfd, weights):
    (weights / f"{DEFAULT_WEIGHTS}.tflite").unlink()
    assert kpn("info") == 0
    lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("network ")]
    names = [line.split(":")[0].removesuffix(" (default)") for line in lines]
    assert names == [f"network {name}" for name in TRAINED]
    assert all("for kpn denoise: export it" in line for line in lines)


def test_info_tells_which_network_slices_without_near_neighbours_get(capfd, weights):
    paired_network(weights, beyond_mm=4.0)
    assert kpn("info") == 0
    (line,) = (line for line in capfd.readouterr().out.splitlines() if line.startswith("network stacks: "))
    assert "; single for slices without neighbours within 4 mm" in line


def test_info_loads_neither_tensorflow_nor_keras():
    code = (
        "import sys\nfrom kpn_tf import cli\ncli.main(['info'])\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_output_that_is_only_flushed_at_the_end_is_no_traceback_either(tmp_path, weights, monkeypatch):
    # Unset, Python holds back short output until it exits.
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    process = start(weights, "info")
    process.stdout.close()
    err = process.stderr.read()
    process.wait(timeout=300)
    process.stderr.close()
    assert (process.returncode, err) == (1, "")


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_the_number_of_a_closed_standard_stream_is_never_given_to_a_slice(tmp_path, weights, closed):
    write_ct_series(tmp_path / "in", slices=2)
    code = (
        "import os, pathlib\nfrom kpn_tf import cli\nfrom kpn_tf.denoiser import artefact\n"
        f"artefact.WEIGHTS_FOLDER = pathlib.Path({str(weights)!r})\n"
        "status = cli.main(['denoise', 'in', 'out', '--json'])\n"
        f"taken = os.path.samestat(os.fstat({closed}), os.stat(os.devnull))\n"
        "pathlib.Path('told').write_text(f'{status} {taken}')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = ["sh", "-c", f'exec "$@" {closed}>&-', "sh", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=300)
    assert done.stderr == b""
    assert (tmp_path / "told").read_text() == "0 True"
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 2


def test_a_missing_extra_is_one_line_that_names_it(monkeypatch, capfd):
    train = commands.Command("train a network", "imported_without_its_extra", "TrainConfig", "train")
    monkeypatch.setitem(commands.COMMANDS, "train", train)
    monkeypatch.setitem(extras.EXTRAS, "train", ("tensorflow_that_is_not_there",))
    assert kpn("train") == 2
    assert (
        capfd.readouterr().err
        == "kpn train needs the training extra: in a checkout, pip install '.[train]'\n"
    )


def test_an_extra_that_is_there_is_no_hindrance(monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "train", ("json",))
    extras.require("kpn train", "train")


def test_help_and_version_load_nothing_heavy():
    code = (
        "import sys\nfrom kpn_tf import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'numpy', 'pydicom', 'ai_edge_litert', 'tensorflow', 'keras'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_a_low_dose_alone_is_not_taken_for_a_normal_dose(tmp_path, capsys):
    assert kpn("evaluate", "--low", tmp_path) == 2
    sentence = "kpn evaluate: error: expected --reference or --normal with --low, received --low alone"
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("former", "now"),
    [
        (["report", "ct", "--output", "r.html"], {"input": Path("ct"), "output": Path("r.html")}),
        (["quality", "ct", "--output", "out"], {"input": Path("ct"), "output": Path("out")}),
        (["evaluate", "--simulate", "ct"], {"input": Path("ct"), "reference": None}),
        (["evaluate", "--low", "a", "--normal", "b"], {"input": Path("a"), "reference": Path("b")}),
        (["export", "--preset", "edge", "e.tflite"], {"weights": "edge", "output": Path("e.tflite")}),
        (["denoise", "--watch", "in", "--output", "out"], {"input": Path("in"), "output": Path("out")}),
        (["denoise", "in", "out", "--network", "m.tflite"], {"input": Path("in"), "weights": "m.tflite"}),
        (["report", "in", "r.html", "--network=paper"], {"output": Path("r.html"), "weights": "paper"}),
        (["export", "--network", "n.keras", "n.onnx"], {"weights": "n.keras", "output": Path("n.onnx")}),
        (["serve-dicom", "--config", "n.toml", "--check"], {"config": Path("n.toml"), "check": True}),
        (["node", "status", "--config", "n.toml"], {"action": "status", "config": Path("n.toml")}),
    ],
)
def test_options_that_became_arguments_still_work_and_say_what_to_do(former, now, monkeypatch, capsys):
    configs = []
    command = commands.WATCH if "--watch" in former else commands.COMMANDS[former[0]]
    module = importlib.import_module(f"kpn_tf.cli.{command.module}")
    monkeypatch.setattr(module, "run", lambda config: configs.append(config) or 0)
    assert kpn(*former) == 0
    assert {name: getattr(configs[0], name) for name in now} == now
    gone = ("--output", "--simulate", "--low", "--preset", "--network", "--config")
    option = next(word for word in map(lambda word: word.partition("=")[0], former) if word in gone)
    assert (
        f"kpn {former[0]}: {option} goes in 0.3; kpn {former[0]} --help has its new form"
        in capsys.readouterr().err
    )
