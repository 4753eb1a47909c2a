"""TLS: with the right certificates it works in both directions, with wrong ones or none nobody gets in or out."""

import socket
import ssl

import pytest

from tests.certificates import Authority
from tests.ct_series import write_ct_series
from tests.node_peers import Node, Recorder, send, until


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def tls(authority):
    """Lines of the configuration."""
    certificate, key = authority.issue("node")
    lines = f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\nauthorities = "{authority.path}"\n'
    return lines + "[limits]\ntimeout_s = 2\nkeep_free_gb = 0.01\n"


def client(authority, paths=None, trusted=None):
    """A scanner's side: who it says it is, and whom it trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations((trusted or authority).path)
    if paths:
        context.load_cert_chain(*paths)
    return context


def test_series_come_and_go_over_tls(tmp_path, authority, tls):
    paths = write_ct_series(tmp_path / "in", name="tls", slices=2)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_cert_chain(*authority.issue("pacs"))
    server.load_verify_locations(authority.path)
    with Recorder(ssl_context=server) as pacs:
        node = Node(tmp_path / "node", [("pacs", pacs.title, pacs.port, True)], sections=tls)
        with node:
            context = client(authority, authority.issue("scanner"))
            answers = send(node.port, paths, tls_args=(context, "localhost"))
            assert answers == [(0x0000, "")] * 2
            until(lambda: len(pacs.digests) == 4)


def test_a_scanner_without_a_certificate_or_with_a_strangers_is_not_let_in(tmp_path, authority, tls):
    paths = write_ct_series(tmp_path / "in", name="stranger", slices=1)
    stranger = Authority(tmp_path / "stranger", "stranger")
    rule = 'name = "keep"\nweights = ""\ndestinations = []'
    with Node(tmp_path / "node", rule=rule, sections=tls) as node:
        for context in (client(authority), client(authority, stranger.issue("scanner"))):
            with pytest.raises((ConnectionError, RuntimeError)):
                send(node.port, paths, tls_args=(context, "localhost"))
        with pytest.raises(ConnectionError):
            send(node.port, paths)
        until(lambda: len(node.lines("TLS failed")) >= 3)
        assert node.journal("SELECT count(*) FROM instance") == [(0,)]
        assert send(node.port, paths, tls_args=(client(authority, authority.issue("late")), "localhost"))


def test_a_connection_that_never_shakes_hands_holds_up_nobody(tmp_path, authority, tls):
    paths = write_ct_series(tmp_path / "in", name="silent", slices=1)
    rule = 'name = "keep"\nweights = ""\ndestinations = []'
    with (
        Node(tmp_path / "node", rule=rule, sections=tls) as node,
        socket.create_connection(("127.0.0.1", node.port)),
    ):
        context = client(authority, authority.issue("scanner"))
        assert send(node.port, paths, tls_args=(context, "localhost")) == [(0x0000, "")]


def test_connections_that_never_shake_hands_are_not_without_number(tmp_path, tls):
    rule = 'name = "keep"\nweights = ""\ndestinations = []'
    with Node(tmp_path / "node", rule=rule, sections=tls + "associations = 2\n") as node:
        silent = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(30)]
        try:
            until(lambda: len(node.lines("connection refused")) >= 20)
            assert node.lines("connection refused")[0]["reason"] == "too many connections"
        finally:
            for connection in silent:
                connection.close()


def test_nothing_is_sent_to_a_destination_whose_certificate_is_a_strangers(tmp_path, authority, tls):
    paths = write_ct_series(tmp_path / "in", name="false", slices=1)
    stranger = Authority(tmp_path / "stranger", "stranger")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*stranger.issue("pacs"))
    with Recorder(ssl_context=server) as pacs:
        rule = 'name = "forward"\nweights = ""\noriginals = true\ndestinations = ["pacs"]'
        node = Node(tmp_path / "node", [("pacs", pacs.title, pacs.port, True)], rule=rule, sections=tls)
        with node:
            context = client(authority, authority.issue("scanner"))
            send(node.port, paths, tls_args=(context, "localhost"))
            until(lambda: node.lines("destination out of reach"))
            assert pacs.digests == {}
            assert node.journal("SELECT state FROM delivery") == [("queued",)]


def test_a_certificate_that_is_none_is_told_at_the_start(tmp_path, authority, tls):
    false = tmp_path / "false.pem"
    false.write_text("no certificate")
    certificate = authority.issue("node")[0]
    node = Node(tmp_path / "node", sections=tls.replace(str(certificate), str(false)))
    with pytest.raises(RuntimeError, match="Expected certificates and key in PEM"):
        node.start()
