"""Ports for servers that tests start."""

import os
import random
import socket

# One after the other, from a place of this process's own. Below the ports that Linux gives to connections by itself
# (net.ipv4.ip_local_port_range, from 32768), which it could give away between this choice and the server's start.
_FIRST, _LAST = 10_000, 32_000
_ports = iter(random.Random(os.getpid()).sample(range(_FIRST, _LAST), _LAST - _FIRST))


def free_port():
    """A port of the loopback interface that nobody listens on; each call returns another one."""
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("no port is free")
