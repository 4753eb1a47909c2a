"""docs/node.md and docs/conformance.md hold: what they list is what the code has."""

import ast
import dataclasses
import re
import shutil
import subprocess
import typing
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import dictionary_keyword
from pydicom.tag import Tag
from pydicom.uid import JPEGLSLossless
from pynetdicom._globals import DEFAULT_TRANSFER_SYNTAXES

from kpn_tf.dicom import identity
from kpn_tf.dicom.writing import derived
from kpn_tf.node import reencoding, sender
from kpn_tf.node.journal.schema import STATES
from kpn_tf.node.listener import receiver
from kpn_tf.node.listener.server import LARGEST_PDU
from kpn_tf.node.rule import Traits, first_match
from kpn_tf.node.settings import Settings, read_settings
from tests.ct_series import write_ct_series
from tests.node_peers import Node, needs_dcmtk

ROOT = Path(__file__).parents[1]
NODE = ROOT / "kpn_tf/node"
GUIDE = (ROOT / "docs/node.md").read_text(encoding="utf-8")
STATEMENT = (ROOT / "docs/conformance.md").read_text(encoding="utf-8")


def block(language):
    """The one block of a language in the guide."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return code


def rows(text):
    """The cells of all rows of all tables."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def tables():
    """Name of each table of the configuration, and its dataclass."""
    for name, hint in typing.get_type_hints(Settings).items():
        many = typing.get_origin(hint) is tuple
        (kind,) = [one for one in (*typing.get_args(hint), hint) if dataclasses.is_dataclass(one)]
        yield f"[[{name}]]" if many else f"[{name}]", kind


def documented(table):
    """Key -> default, as the guide's table of a table has them."""
    lines = rows(GUIDE)
    start = next(index for index, row in enumerate(lines) if row[0] == f"`{table}`")
    keys = {}
    for key, default, *_ in lines[start + 2 :]:
        if not re.fullmatch(r"`[a-z_]+`", key):
            break
        keys[key.strip("`")] = default.strip("`")
    return keys


def as_toml(field):
    """A default as the guide writes it."""
    if field.default is dataclasses.MISSING or field.default is None:
        return ""
    if isinstance(field.default, bool):
        return str(field.default).lower()
    if isinstance(field.default, str):
        return f'"{field.default}"'
    if isinstance(field.default, tuple):
        return str(list(field.default)).replace("'", '"')
    return str(field.default)


def log_calls():
    """Event, level and fields of every line that the node's code logs."""
    calls = []
    for path in NODE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)):
                continue
            function = ast.unparse(node.func)
            # `warning` alone: kpn_tf/node/log.py itself.
            if function in ("log.info", "log.warning", "warning"):
                names = [keyword.arg for keyword in node.keywords if keyword.arg]
                calls.append((node.args[0].value, function.removeprefix("log."), names))
    return calls


def test_the_configuration_in_the_guide_is_accepted_and_does_what_it_says(tmp_path):
    for name in ("kpn.pem", "kpn.key", "hospital-ca.pem"):
        (tmp_path / name).write_text("placeholder")
    path = tmp_path / "node.toml"
    path.write_text(block("toml"), encoding="utf-8")
    settings = read_settings(path)
    assert settings.tls.key == tmp_path / "kpn.key"
    assert settings.knows("CT1", "192.0.2.7")
    assert not settings.knows("CT1", "192.0.2.8")

    def rule(description, kernel, thickness_mm):
        taken = first_match(settings.rule, Traits("CT1", "CT", description, kernel, thickness_mm))
        return taken and taken.name

    assert rule("Topogramm", "Br36d", 1.0) == "scouts"
    assert rule("Localizer", "", None) == "scouts"
    assert rule("Abdomen 1.0 Br36", "Br36d\\3", 1.0) == "soft tissue"
    assert rule("Abdomen 1.0 Bl57", "Bl57d\\3", 1.0) is None
    assert rule("Abdomen", "STANDARD", None) is None


@pytest.mark.parametrize(("table", "kind"), list(tables()), ids=lambda value: str(value))
def test_every_key_of_the_configuration_is_in_the_guide_with_its_default(table, kind):
    keys = documented(table)
    for field in dataclasses.fields(kind):
        assert field.name in keys
        default = as_toml(field)
        same = keys[field.name] == default
        assert same or float(keys[field.name]) == float(default), field.name


def test_the_defaults_of_the_conformance_statement_are_those_of_the_code():
    told = {key: row[2] for row in rows(STATEMENT) if len(row) == 3 for key in re.findall(r"`(.+?)`", row[1])}
    kinds = {name.strip("[]"): kind for name, kind in tables()}
    numbers = 0
    for key, default in told.items():
        table, _, name = key.partition(".")
        if table in kinds and default != "none":
            value = next(field.default for field in dataclasses.fields(kinds[table]) if field.name == name)
            assert f"{value:g}" in re.findall(r"\d+", default), key
            numbers += 1
    assert numbers >= 12


def test_every_event_of_the_log_is_in_the_guide_with_its_level_and_fields():
    told = {row[0]: row[1:3] for row in rows(GUIDE) if len(row) == 4}
    calls = log_calls()
    assert len(calls) > 20
    for event, level, fields in calls:
        # `kpn denoise --watch` refuses files, not callers.
        missing = {name for name in fields if f"`{name}`" not in told[f"`{event}`"][1]} - {"file"}
        assert told[f"`{event}`"][0] == level
        assert not missing, event


def test_every_state_of_a_series_is_in_the_guide():
    told = {row[0] for row in rows(GUIDE)}
    assert {f"`{state}`" for state in STATES} <= told


@pytest.mark.parametrize("page", [GUIDE, STATEMENT])
def test_every_status_that_the_node_answers_is_told(page):
    told = {cell for row in rows(page) for cell in row}
    codes = {
        value
        for name, value in vars(receiver).items()
        if name in ("_SUCCESS", "_OUT_OF_RESOURCES", "_NOT_THIS_CLASS", "_CANNOT_UNDERSTAND")
    }
    assert {f"{code:04X}" for code in codes} <= told
    assert len(codes) == 4


def test_the_comments_of_refusals_are_those_of_the_code():
    folders = NODE / "listener", ROOT / "kpn_tf/dicom/reading"
    source = "".join(path.read_text() for folder in folders for path in folder.glob("*.py"))
    comments = [
        part.strip("` .")
        for row in rows(GUIDE)
        if row[0] in ("A700", "A900", "C000")
        for part in re.findall(r"`[a-z].+?`", row[1])
    ]
    assert len(comments) >= 9
    elsewhere = {"is damaged:", "has no SOPInstanceUID:", "has a header of more than any CT image:"}
    for comment in comments:
        if comment not in elsewhere:
            assert comment.split(" ... ")[0].removesuffix(", ...").rstrip(",. ") in source, comment


def test_the_conformance_statement_lists_what_is_accepted_in_the_order_of_preference():
    told = [cell for row in rows(STATEMENT) for cell in row]
    for sop_class in (receiver.VERIFICATION, *receiver.CT_CLASSES):
        assert str(sop_class) in told
    syntaxes = [cell for cell in told if re.fullmatch(r"1\.2\.840\.10008\.1\.2(\.\d+)*", cell)]
    assert syntaxes == [*sorted(DEFAULT_TRANSFER_SYNTAXES), *map(str, receiver.SYNTAXES)]
    assert f"{LARGEST_PDU} bytes" in told


def test_the_conformance_statement_lists_what_is_sent_and_which_answers_count_as_success():
    proposed = next(row for row in rows(STATEMENT) if row[0] == "CT Image Storage, of derived images")
    assert all(str(syntax) in proposed[1] for syntax in reencoding.PLAIN)
    warnings = next(row[1] for row in rows(STATEMENT) if row[0].startswith("warning:"))
    assert {int(code, 16) for code in warnings.split(", ")} == sender._ACCEPTED - {0x0000}
    refused = sender._OUT_OF_RESOURCES
    assert f"{refused[0]:04X} to {refused[-1]:04X}" in STATEMENT


def test_the_conformance_statement_names_who_implements():
    assert f"| {identity.IMPLEMENTATION_CLASS_UID} |" in STATEMENT
    assert f"| {identity.IMPLEMENTATION_VERSION_NAME} |" in STATEMENT


def test_the_conformance_statement_lists_every_attribute_that_is_written_or_dropped():
    source = ast.parse(Path(derived.__file__).read_text(encoding="utf-8"))
    written = {
        target.attr
        for node in ast.walk(source)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "derived"
    }
    written |= {
        node.slice.value
        for node in ast.walk(source)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)
        if ast.unparse(node.value) == "derived"
    }
    assert {"SOPInstanceUID", "ImageType", "HighBit", "SeriesDescription"} <= written
    # "its Ratio and Method"
    written -= {"LossyImageCompressionRatio", "LossyImageCompressionMethod"}
    told = {name for row in rows(STATEMENT) for name in row[0].split(", ")}
    assert written <= told
    assert set(derived._DROPPED) <= told


def test_the_tags_of_the_conformance_statement_are_those_of_their_keywords():
    checked = 0
    for row in rows(STATEMENT):
        names, tags = row[0].split(", "), re.findall(r"\(([0-9A-F]{4}),([0-9A-F]{4})\)", row[-2])
        if len(row) == 3 and len(names) == len(tags) and all(name.isalnum() for name in names):
            for name, (group, element) in zip(names, tags, strict=True):
                assert dictionary_keyword(Tag(int(group, 16), int(element, 16))) == name
                checked += 1
    assert checked >= 25


def test_the_links_of_both_pages_lead_somewhere():
    for page in (GUIDE, STATEMENT):
        for target, anchor in re.findall(r"\]\(([a-z_]+\.md)(?:#([a-z-]+))?\)", page):
            text = (ROOT / "docs" / target).read_text(encoding="utf-8")
            headings = {
                re.sub(r"[^a-z -]", "", line.lstrip("# ").lower()).replace(" ", "-")
                for line in text.splitlines()
                if line.startswith("#")
            }
            assert not anchor or anchor in headings


@needs_dcmtk
@pytest.mark.parametrize("tool", ["dcmsend", "storescu"])
def test_the_guides_lines_send_compressed_slices(tmp_path, tool):
    (line,) = re.findall(rf"^    ({tool} .*) NODE 11112 slices", GUIDE, re.MULTILINE)
    paths = write_ct_series(tmp_path / "in", name="compressed", slices=2)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(JPEGLSLossless, generate_instance_uid=False)
        dataset.save_as(path, enforce_file_format=True)
    with Node(tmp_path / "node", rule='name = "kept"\nweights = ""\ndestinations = []') as node:
        # dcmtk's: pynetdicom has a storescu of its own.
        command, *options = line.replace("CT1", "SCANNER").split()
        call = [
            shutil.which(command, path="/usr/bin"),
            *options,
            "127.0.0.1",
            str(node.port),
            *map(str, paths),
        ]
        assert subprocess.run(call).returncode == 0
        assert node.journal("SELECT DISTINCT syntax FROM instance") == [(JPEGLSLossless,)]
