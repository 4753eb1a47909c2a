"""The configuration of a node: everything that does not fit is told in one sentence, before anything starts."""

import pytest

from kpn_tf.node.settings import Retry, SettingsError, check_networks, read_settings
from kpn_tf.trained import DEFAULT_WEIGHTS

MINIMAL = """
[node]
spool = "spool"
[[peer]]
ae_title = "CT1"
addresses = ["192.0.2.0/24", "2001:db8::7"]
[[destination]]
name = "pacs"
ae_title = "PACS"
host = "pacs.example"
port = 104
[[rule]]
name = "all"
destinations = ["pacs"]
"""


def read(tmp_path, text):
    path = tmp_path / "node.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path)


def test_what_is_not_said_has_its_default_and_paths_start_at_the_file(tmp_path):
    settings = read(tmp_path, MINIMAL)
    assert settings.node.spool == tmp_path / "spool"
    assert (settings.node.ae_title, settings.node.port, settings.node.quiet_s) == ("KPN", 11112, 60.0)
    assert settings.rule[0].weights == DEFAULT_WEIGHTS
    assert settings.rule[0].originals is False
    assert settings.tls is None


def test_a_rule_may_still_say_preset_and_is_told_the_new_word(tmp_path, capsys):
    settings = read(tmp_path, MINIMAL + 'preset = "paper"\n')
    assert settings.rule[0].weights == "paper"
    told = f"{tmp_path / 'node.toml'}: preset goes in 0.3; write weights = ... in rules\n"
    assert capsys.readouterr().err == told
    with pytest.raises(SettingsError, match=r"Expected only name, .*Received: preset"):
        read(tmp_path, MINIMAL + 'preset = "paper"\nweights = "edge"\n')


@pytest.mark.parametrize(
    ("title", "address", "known"),
    [
        ("CT1", "192.0.2.7", True),
        ("CT1", "2001:db8::7", True),
        ("CT1", "192.0.3.7", False),
        ("CT2", "192.0.2.7", False),
        ("ct1", "192.0.2.7", False),
    ],
)
def test_a_caller_is_known_by_title_and_address_together(tmp_path, title, address, known):
    assert read(tmp_path, MINIMAL).knows(title, address) is known


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ('spool = "spool"', "", "Expected spool in node. Received: none"),
        (
            'spool = "spool"',
            'spool = "s"\nspol = 1',
            "Expected only spool, ae_title, .* in node. Received: spol",
        ),
        (
            'spool = "spool"',
            'spool = "s"\nport = "104"',
            "Expected a whole number for node.port. Received: '104'",
        ),
        ('spool = "spool"', 'spool = "s"\nport = 0', "node: Expected port between 1 and 65535. Received: 0"),
        (
            'spool = "spool"',
            'spool = "s"\nport = true',
            "Expected a whole number for node.port. Received: True",
        ),
        ('spool = "spool"', 'spool = "s"\nae_title = "SEVENTEEN LETTERS"', "Expected ae_title of 1 to 16"),
        ('spool = "spool"', 'spool = "s"\nquiet_s = 0', "Expected quiet_s above 0. Received: 0.0"),
        (
            'spool = "spool"',
            'spool = "s"\ndevice = "tpu"',
            "Expected device cpu, gpu or auto. Received: 'tpu'",
        ),
        ("192.0.2.0/24", "192.0.2.1/24", "Expected addresses such as 192.0.2.7 or 192.0.2.0/24"),
        ('name = "pacs"', 'name = "../pacs"', "Expected name of letters and digits"),
        ('["pacs"]', '["other"]', "Expected destinations of rule 'all' to be defined. Received: other"),
        (
            '["pacs"]',
            '["pacs"]\ndecompress = true',
            r"rule\[0\]: Expected originals = true where decompress = true. Received: originals = false",
        ),
        ('["pacs"]', '["pacs"]\nstrength = 1.5', r"rule\[0\]: Expected strength from 0 to 1. Received: 1.5"),
        ('["pacs"]', '["pacs"]\nthickness_mm = [1]', "Expected thickness_mm of two numbers"),
        ('["pacs"]', '["pacs"]\nkernel = "B30f"', r"Expected a list for rule\[0\].kernel. Received: 'B30f'"),
        ("port = 104", "port = 104\ntls = true", r"Expected \[tls\] where a destination has tls = true"),
        (
            "[[rule]]",
            "[tls]\ncertificate='a'\nkey='b'\nauthorities='c'\n[[rule]]",
            "certificate to name a file",
        ),
        ("[[rule]]", "[limits]\nassociations = 0\n[[rule]]", "Expected associations above 0. Received: 0"),
        ("[[peer]]", "[peer]", "Expected a list for peer"),
        ("[node]", "[node", "Expected TOML in .*node.toml"),
        ("[node]", f"x = {'[' * 100_000}", "Expected TOML in .*node.toml"),
        ("[node]", f"x = 1{'0' * 9000}", "Expected TOML in .*node.toml"),
        ('spool = "spool"', 'spool = ""', "Expected a path for node.spool. Received: ''"),
        (
            'spool = "spool"',
            'spool = "s"\nquiet_s = inf',
            "number up to 1e.06 for node.quiet_s. Received: inf",
        ),
        (
            'spool = "spool"',
            'spool = "s"\nquiet_s = nan',
            "number up to 1e.06 for node.quiet_s. Received: nan",
        ),
        (
            'spool = "spool"',
            f'spool = "s"\nquiet_s = 1{"0" * 400}',
            "Expected a number up to 1e.06 for node.quiet_s. Received: 10{199}$",
        ),
        ('spool = "spool"', 'spool = "s"\nthreads = 99999', "Expected threads of 1 to 1024. Received: 99999"),
        (
            '["pacs"]',
            '["pacs"]\nthickness_mm = [3, 1]',
            "thickness_mm of two numbers, smallest and largest",
        ),
        (
            '["pacs"]',
            '["pacs"]\nstrength = nan',
            r"number up to 1e.06 for rule\[0\].strength. Received: nan",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, was, becomes, said):
    with pytest.raises(SettingsError, match=said):
        read(tmp_path, MINIMAL.replace(was, becomes, 1))


def test_several_mistakes_are_told_at_once(tmp_path):
    text = MINIMAL.replace('spool = "spool"', 'spool = "s"\nport = 0\nquiet_s = inf\nspol = 1')
    text = text.replace('["pacs"]', '["pacs"]\nstrength = 2.0\nthickness_mm = [nan, 1.0]')
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    said = [mistake.removeprefix(f"{tmp_path / 'node.toml'}: ") for mistake in caught.value.mistakes]
    assert said == [
        "Expected only spool, ae_title, host, port, quiet_s, threads, device in node. Received: spol",
        "Expected a number up to 1e+06 for node.quiet_s. Received: inf",
        "node: Expected port between 1 and 65535. Received: 0",
        "Expected a number up to 1e+06 for rule[0].thickness_mm[0]. Received: nan",
        "rule[0]: Expected strength from 0 to 1. Received: 2.0",
    ]


def test_every_network_that_is_not_there_is_named(tmp_path):
    settings = read(tmp_path, MINIMAL + '[[rule]]\nname = "b"\ndestinations = []\nweights = "egde"\n')
    with pytest.raises(SettingsError, match=r"rule 'b': Expected the name of shipped weights \(edge.*egde"):
        check_networks(settings)
    check_networks(read(tmp_path, MINIMAL))


def test_two_destinations_of_one_name_are_refused(tmp_path):
    entry = MINIMAL[MINIMAL.index("[[destination]]") : MINIMAL.index("[[rule]]")]
    with pytest.raises(SettingsError, match="every destination to have a name of its own"):
        read(tmp_path, MINIMAL + entry)


def test_pauses_double_up_to_the_longest():
    retry = Retry(first_s=5.0, longest_s=60.0)
    assert [retry.pause_s(failures) for failures in (1, 2, 3, 4, 5, 9999)] == [5, 10, 20, 40, 60, 60]
