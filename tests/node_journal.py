"""A spool as a node leaves it, made with the node's own functions: for tests, and for the picture in the docs."""

from dataclasses import dataclass

from kpn_tf.node.addresses import Destination, Peer
from kpn_tf.node.journal import arrivals, deliveries, steps
from kpn_tf.node.journal.journal import Journal, Object
from kpn_tf.node.listener.arrival import Arrival
from kpn_tf.node.rule import Rule, Traits
from kpn_tf.node.settings import Own, Settings
from kpn_tf.node.spool import Spool

CT = "1.2.840.10008.5.1.4.1.1.2"
PLAIN = "1.2.840.10008.1.2.1"

# Not to be found in anything a node tells.
ROOT = "1.2.826.0.1.3680043.8.498"
DESCRIPTION = "DOE JANE THORAX"


def settings_of(folder, **changes):
    """Settings of a node with two destinations."""
    standard = {
        "node": Own(folder / "spool"),
        "peer": (Peer("SCANNER1", ("127.0.0.1",)),),
        "destination": (
            Destination("pacs", "PACS", "127.0.0.1", 11113),
            Destination("archive", "ARCHIVE", "127.0.0.1", 11114),
        ),
        "rule": (Rule("chest", ("pacs", "archive")),),
    }
    return Settings(**{**standard, **changes})


@dataclass
class Site:
    """A spool and its journal, open."""

    settings: Settings
    spool: Spool
    journal: Journal

    @classmethod
    def made(cls, folder, **changes):
        settings = settings_of(folder, **changes)
        spool = Spool(settings.node.spool)
        return cls(settings, spool, Journal(spool.journal))

    def receive(self, number, slices, now, peer="SCANNER1", frames=1):
        """A series arrives, object by object, with files; returns its number."""
        for index in range(slices):
            path = self.spool.incoming / "arriving"
            path.write_bytes(b"slice")
            uid = f"{ROOT}.{number}.{index}"
            traits = Traits(peer, "CT", DESCRIPTION, "B30f", 1.0)
            places = tuple(("z", float(index * frames + frame)) for frame in range(frames))
            arrival = Arrival(uid, CT, PLAIN, f"{ROOT}.{number}", traits, False, places, 0)
            series = arrivals.receive(self.journal, self.spool, path, arrival, "digest", 5, now)
        return series

    def complete(self, series, now, note=""):
        steps.complete(self.journal, series, self.settings.rule[0], note, now)

    def denoise(self, series, slices, now, seconds=None):
        """As many derived slices as arrived, with files, are queued for every destination."""
        objects = []
        folder = self.spool.derived(series) / f"{ROOT}.9.{series}"
        folder.mkdir(parents=True)
        for index in range(slices):
            path = folder / f"{ROOT}.9.{series}.{index}.dcm"
            path.write_bytes(b"derived")
            objects.append(Object(path.stem, CT, PLAIN, str(path.relative_to(self.spool.folder))))
        steps.denoised(self.journal, series, objects, "", seconds or 0.25 * slices, now)

    def send(self, destination, count, now):
        for row in deliveries.due(self.journal, destination, now, 900.0, count):
            deliveries.sent(self.journal, row["id"], now)

    def keep_dead_letter(self, destination, count, reason, now):
        """Objects that are due become dead letters."""
        for row in deliveries.due(self.journal, destination, now, 900.0, count):
            file = self.spool.keep_dead_letter(row["file"], destination, row["series"])
            deliveries.keep_dead_letter(self.journal, row["id"], file, reason, now)

    def arrive_everywhere(self, number, slices, now, note=""):
        """A whole life: received, denoised, sent; returns the number of the series."""
        series = self.receive(number, slices, now)
        self.complete(series, now, note)
        self.denoise(series, slices, now)
        for destination in self.settings.destination:
            self.send(destination.name, slices, now)
        steps.settle(self.journal, now)
        return series

    def fail(self, number, slices, now, reason):
        series = self.receive(number, slices, now)
        self.complete(series, now)
        steps.fail(self.journal, series, reason, now)
        return series

    def files(self):
        """All files of images in the spool."""
        return sorted(
            path for part in ("series", "dead") for path in (self.spool.folder / part).rglob("*.dcm")
        )
