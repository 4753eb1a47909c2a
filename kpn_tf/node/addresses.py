"""Whom a node speaks with: peers that send to it, destinations, and the certificates between them."""

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from kpn_tf.node.tables import check

# Of a destination: as long as the names of files may be, with room to spare.
_LONGEST_NAME = 64


@dataclass(frozen=True)
class Tls:
    """`[tls]`: certificates, PEM. Peers must show one that the authorities signed, and so must destinations.

    Args:
        certificate: The node's certificate chain.
        key: Its private key.
        authorities: Certificates of the authorities that are trusted.
    """

    certificate: Path
    key: Path
    authorities: Path

    def __post_init__(self):
        check(
            *(
                (
                    os.access(getattr(self, name), os.R_OK),
                    f"{name} to name a file that can be read",
                    getattr(self, name),
                )
                for name in ("certificate", "key", "authorities")
            )
        )


@dataclass(frozen=True)
class Peer:
    """`[[peer]]`: who may send.

    Args:
        ae_title: Calling AE title.
        addresses: Its addresses or networks, such as `"192.0.2.7"` or `"192.0.2.0/24"`.
    """

    ae_title: str
    addresses: tuple[str, ...]

    def __post_init__(self):
        check(
            checked_title(self.ae_title),
            (bool(self.addresses), "at least one address", "none"),
            *(
                (_is_network(address), "addresses such as 192.0.2.7 or 192.0.2.0/24", repr(address))
                for address in self.addresses
            ),
        )

    def is_at(self, address):
        """Whether it may send from an address."""
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(known) for known in self.addresses)


@dataclass(frozen=True)
class Destination:
    """`[[destination]]`: where series go.

    Args:
        name: As rules name it.
        ae_title: Called AE title.
        host: Its host name or address.
        port: Its port.
        tls: Whether it is spoken to over TLS.
    """

    name: str
    ae_title: str
    host: str
    port: int
    tls: bool = False

    def __post_init__(self):
        check(
            # It becomes the name of a folder, too.
            (
                self.name.replace("-", "").replace("_", "").isalnum() and len(self.name) <= _LONGEST_NAME,
                f"name of letters and digits, at most {_LONGEST_NAME}",
                repr(self.name),
            ),
            checked_title(self.ae_title),
            (bool(self.host) and self.host.isprintable(), "a host", repr(self.host)),
            checked_port(self.port),
        )


def _is_network(address):
    try:
        ipaddress.ip_network(address)
    except ValueError:
        return False
    return True


def checked_title(title):
    # PS3.5 table 6.2-1, AE: 16 characters, no backslash, not only spaces.
    right = 0 < len(title) <= 16 and title == title.strip() and title.isascii() and title.isprintable()
    return right and "\\" not in title, "ae_title of 1 to 16 printable characters", repr(title)


def checked_port(port, lowest=1):
    return lowest <= port < 65536, f"port between {lowest} and 65535", port
