"""docs/deployment.md holds: its unit, its Orthanc and its mercure module do what it says."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pydicom
import pytest
import yaml

from kpn_tf.node.settings import read_settings
from kpn_tf.trained import DEFAULT_WEIGHTS
from tests.ct_series import write_ct_series
from tests.node_peers import Node, Orthanc, needs_orthanc, send, until
from tests.node_scenarios import derived_from
from tests.test_readme import blocks_of

PAGE = (Path(__file__).parents[1] / "docs/deployment.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`([\w.-]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = {match[1]: match[2] for match in FILE.finditer(PAGE)}


def code(language):
    """All blocks of a language."""
    return [block.code for block in blocks_of(PAGE) if block.language == language]


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is absent: apt-get install systemd"
)
def test_the_unit_is_one_that_systemd_understands(tmp_path):
    unit = tmp_path / "kpn-node.service"
    # systemd-analyze looks for the program, too.
    (text,) = code("ini")
    unit.write_text(text.replace("/opt/kpn/bin/kpn", "/bin/true"), encoding="utf-8")
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
    )
    about = [line for line in run.stderr.splitlines() if unit.name in line]
    assert about == []
    assert run.returncode == 0, run.stderr


def test_orthanc_and_the_node_of_the_page_know_each_other(tmp_path):
    (tmp_path / "node.toml").write_text(FILES["node.toml"], encoding="utf-8")
    node = read_settings(tmp_path / "node.toml")
    orthanc = json.loads(FILES["orthanc.json"])
    assert node.knows(orthanc["DicomAet"], "127.0.0.1")
    (back,) = node.destination
    assert (back.ae_title, back.host, back.port) == (orthanc["DicomAet"], "127.0.0.1", orthanc["DicomPort"])
    ((name, there),) = orthanc["DicomModalities"].items()
    assert there == [node.node.ae_title, node.node.host, node.node.port]
    assert f'"/modalities/{name}/store"' in FILES["route.lua"]
    assert f'"{node.node.ae_title}"' in FILES["route.lua"]


@pytest.mark.slow
@needs_orthanc
def test_what_comes_to_orthanc_is_denoised_once_and_comes_back(tmp_path):
    node = Node(tmp_path / "node")
    (tmp_path / "route.lua").write_text(FILES["route.lua"])
    settings = json.loads(FILES["orthanc.json"])
    title, script = settings.pop("DicomAet"), settings.pop("LuaScripts")
    assert script == ["/etc/orthanc/route.lua"]
    (name, (called, host, _)) = settings.pop("DicomModalities").popitem()
    for key in ("DicomPort", "StorageDirectory", "IndexDirectory", "StableAge"):
        del settings[key]  # Ports and folders are the test's, and it does not wait a minute.
    pacs = Orthanc(
        tmp_path / "pacs",
        title=title,
        modalities={name: [called, host, node.port]},
        LuaScripts=[str(tmp_path / "route.lua")],
        StableAge=1,
        **settings,
    )
    configuration = FILES["node.toml"]
    for page, test in (
        ('spool = "/var/lib/kpn/spool"', f'spool = "spool"\nport = {node.port}'),
        ("quiet_s = 60", "quiet_s = 0.6"),
        ("port = 4242", f"port = {pacs.port}"),
    ):
        assert configuration.count(page) == 1
        configuration = configuration.replace(page, test)
    configuration += f"[status]\nport = {node.status_port}\n[limits]\nkeep_free_gb = 0.01\n"
    node.config.write_text(configuration, encoding="utf-8")
    paths = write_ct_series(tmp_path / "in", name="routed", slices=3)
    with pacs, node:
        assert [status for status, _ in send(pacs.port, paths, called=title)] == [0, 0, 0]
        until(lambda: pacs.count() == 6, what="the derived series")
        node.settled()
        until(lambda: all(pacs.rest(f"/series/{one}")["IsStable"] for one in pacs.rest("/series")))
        time.sleep(1.5)  # What Orthanc sends now would be here by then.
        found = pacs.datasets()
        assert len(node.lines("complete")) == 1
    expected = derived_from(tmp_path / "in", tmp_path / "expected", DEFAULT_WEIGHTS)
    originals = {pydicom.dcmread(path).SOPInstanceUID for path in paths}
    assert set(found) == {*expected, *originals}
    assert all(found[sop_uid] == dataset for sop_uid, dataset in expected.items())


def test_compose_mounts_the_files_of_the_page_where_they_are_looked_for():
    services = yaml.safe_load(FILES["compose.yaml"])["services"]
    mounted = {
        Path(source).name: target
        for service in services.values()
        for source, target, *_ in (volume.split(":") for volume in service["volumes"])
    }
    settings = json.loads(FILES["orthanc.json"])
    assert settings["LuaScripts"] == [mounted["route.lua"]]
    assert settings["StorageDirectory"] == settings["IndexDirectory"] == mounted["archive"]
    assert FILES["node.toml"].count(f'spool = "{mounted["spool"]}/') == 1
    node, _ = code("dockerfile")
    assert f'"{mounted["node.toml"]}"' in node
    assert f"VOLUME {mounted['spool']}" in node
    assert {service["network_mode"] for service in services.values()} == {"host"}


def test_the_entry_script_leaves_the_derived_slices_where_mercure_looks_for_them(tmp_path):
    write_ct_series(tmp_path / "in", name="mercure", slices=3)
    (tmp_path / "in/task.json").write_text("{}")
    (tmp_path / "out").mkdir()
    (description,) = [json.loads(text) for text in code("json") if "docker_tag" in text]
    given = json.loads(description["kpn"]["environment"])
    script = tmp_path / "docker-entrypoint.sh"
    script.write_text(FILES["docker-entrypoint.sh"])
    environment = {
        **os.environ,
        **given,
        "MERCURE_IN_DIR": str(tmp_path / "in"),
        "MERCURE_OUT_DIR": str(tmp_path / "out"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path),
    }
    subprocess.run(["bash", str(script)], env=environment, check=True, timeout=300)
    written = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    names = [path.name for path in sorted((tmp_path / "out").iterdir())]
    assert names == [f"{one.SeriesInstanceUID}#{one.SOPInstanceUID}.dcm" for one in written]
    assert len(written) == 3
    assert {one.SeriesDescription.partition("KPN")[2].split(",")[0].strip() for one in written} == {"70%"}


def test_what_no_test_builds_or_starts_says_so_just_above():
    for language, words, count in (
        ("dockerfile", "built in no test", 2),
        ("yaml", "started in no test", 1),
        ('json\n{\n  "kpn"', "mercure itself was started in no test", 1),
    ):
        sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
        before = [
            section.partition(f"```{language}")[0] for section in sections if f"```{language}" in section
        ]
        assert len(before) == count
        assert all(words in " ".join(text.split()) for text in before)
