"""Settings of the node: one TOML file, checked before anything starts."""

import dataclasses
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from kpn_tf.console import say
from kpn_tf.node.addresses import Destination, Peer, Tls, checked_port, checked_title
from kpn_tf.node.rule import Rule
from kpn_tf.node.tables import MistakesError, built, check

# What is more is no machine's.
_MOST_THREADS = 1024


class SettingsError(MistakesError):
    """The configuration cannot be used; sentences that name the file and what to correct."""


@dataclass(frozen=True)
class Own:
    """`[node]`: who the node is.

    Args:
        spool: Folder for everything that is kept; made, mode 0700, if it does not exist.
        ae_title: Its AE title, which callers must use.
        host: Address to listen on.
        port: Port to listen on.
        quiet_s: A series is complete so many seconds after its last slice.
        threads: For the network; `None` leaves it to the network.
        device: `"cpu"`, `"gpu"` (where it proves right) or `"auto"` (where it is faster as well).
    """

    spool: Path
    ae_title: str = "KPN"
    host: str = "0.0.0.0"
    port: int = 11112
    quiet_s: float = 60.0
    threads: int | None = None
    device: str = "cpu"

    def __post_init__(self):
        threads = self.threads
        check(
            checked_title(self.ae_title),
            (self.device in ("cpu", "gpu", "auto"), "device cpu, gpu or auto", repr(self.device)),
            checked_port(self.port),
            *_above_0(self, "quiet_s"),
            (threads is None or 0 < threads <= _MOST_THREADS, f"threads of 1 to {_MOST_THREADS}", threads),
        )


@dataclass(frozen=True)
class Limits:
    """`[limits]`: what the node refuses.

    Args:
        associations: Most associations at once.
        per_address: Most associations of one address at once, so that it leaves some to the others.
        series_slices: So many slices of a series are denoised before another sender has its turn: when they have
            come, they are complete, and what comes later is the next part of the series.
        series_gb: The same for the size of their files, in units of 1e9 bytes.
        object_mb: Largest object, in units of 1e6 bytes.
        keep_free_gb: Objects are refused while less than this is free, in units of 1e9 bytes: room for what has
            been accepted to be denoised.
        timeout_s: A peer that is silent for so long in the middle of something is left.
        stall_s: A network that takes longer for one slice is ended.
    """

    associations: int = 10
    per_address: int = 8
    series_slices: int = 2000
    series_gb: float = 2.0
    object_mb: float = 1000.0
    keep_free_gb: float = 5.0
    timeout_s: float = 30.0
    stall_s: float = 300.0

    def __post_init__(self):
        check(*_above_0(self, *(field.name for field in dataclasses.fields(self))))


@dataclass(frozen=True)
class Retention:
    """`[retention]`: when what is kept is deleted.

    Args:
        days: Files of a series that has arrived everywhere, or that no rule takes.
        dead_days: Files of a series that failed or could not be delivered.
        journal_days: The line that remains of a series, without identifiers.
    """

    days: float = 7.0
    dead_days: float = 30.0
    journal_days: float = 365.0

    def __post_init__(self):
        names = ("days", "dead_days", "journal_days")
        check(*((getattr(self, name) >= 0, f"{name} of 0 or more", getattr(self, name)) for name in names))


@dataclass(frozen=True)
class Retry:
    """`[retry]`: how often something is tried again.

    Args:
        first_s: First pause; each further one is twice as long.
        longest_s: Longest pause.
        refusals: An object that was refused so often goes to the dead letters.
        give_up_h: So do all that wait for a destination that has been out of reach for so long.
        attempts: A series that the network did not survive so often has failed.
    """

    first_s: float = 5.0
    longest_s: float = 900.0
    refusals: int = 10
    give_up_h: float = 72.0
    attempts: int = 3

    def __post_init__(self):
        check(*_above_0(self, "first_s", "longest_s", "refusals", "give_up_h", "attempts"))

    def pause_s(self, failures):
        """Seconds to wait after so many failures in a row, 1 or more."""
        return min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 60))


@dataclass(frozen=True)
class Status:
    """`[status]`: the status page, on the loopback interface only.

    Args:
        port: Its port; 0 for none.
    """

    port: int = 8104

    def __post_init__(self):
        check(checked_port(self.port, lowest=0))


@dataclass(frozen=True)
class Settings:
    """The whole file."""

    node: Own
    peer: tuple[Peer, ...]
    rule: tuple[Rule, ...]
    destination: tuple[Destination, ...] = ()
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)
    retry: Retry = field(default_factory=Retry)
    status: Status = field(default_factory=Status)
    tls: Tls | None = None

    def __post_init__(self):
        names = [destination.name for destination in self.destination]
        secure = [destination.name for destination in self.destination if destination.tls]
        unknown = {rule.name: sorted(set(rule.destinations) - set(names)) for rule in self.rule}
        check(
            (
                len(set(names)) == len(names),
                "every destination to have a name of its own",
                ", ".join(names),
            ),
            *(
                (not others, f"destinations of rule {rule!r} to be defined", ", ".join(others))
                for rule, others in unknown.items()
            ),
            (
                self.tls is not None or not secure,
                "[tls] where a destination has tls = true",
                f"none, and {', '.join(secure)}",
            ),
        )

    def knows(self, ae_title, address):
        """Whether a caller of this title may send from this address."""
        return any(peer.ae_title == ae_title and peer.is_at(address) for peer in self.peer)


def read_settings(path):
    """Reads the configuration of a node.

    Args:
        path: A TOML file; the page docs/node.md lists what may stand in it.

    Returns:
        A `Settings`. Relative paths in it are taken from the file's folder.

    Raises:
        SettingsError: If it cannot be read or used.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise SettingsError(
            [f"Expected a configuration file. Received: {path}, which cannot be read ({error.strerror})"]
        ) from error
    except (ValueError, RecursionError) as error:
        # Not only TOMLDecodeError: an integer of 5,000 digits, or text in another encoding.
        raise SettingsError([f"Expected TOML in {path}. Received: {error}"]) from error
    _rename_former(table, path)
    try:
        return built(Settings, table, path.absolute().parent)
    except MistakesError as error:
        raise SettingsError([f"{path}: {mistake}" for mistake in error.mistakes]) from error


def _rename_former(table, path):
    """Keys of rules that were called otherwise before 0.2: they still work, and say so, until 0.3."""
    rules = table.get("rule")
    for rule in rules if isinstance(rules, list) else []:
        if isinstance(rule, dict) and "preset" in rule and "weights" not in rule:
            rule["weights"] = rule.pop("preset")
            say(f"{path}: preset goes in 0.3; write weights = ... in rules", sys.stderr)


def check_networks(settings):
    """Looks whether the networks that rules name are there; the rest of a `Settings` was checked when it was made.

    Raises:
        SettingsError: If one is not, or does not say what it is.
    """
    # LiteRT comes along, which nobody needs who only looks on.
    from kpn_tf.denoiser.artefact import open_artefact

    mistakes = []
    for rule in settings.rule:
        try:
            if rule.weights:
                open_artefact(rule.weights)
        except (OSError, ValueError) as error:
            mistakes.append(f"rule {rule.name!r}: {error}")
    if mistakes:
        raise SettingsError(mistakes)


def _above_0(table, *names):
    return [(getattr(table, name) > 0, f"{name} above 0", getattr(table, name)) for name in names]
