"""A sender of very many slices leaves the network to the others in turn; nothing that he sent is lost."""

import time

import pytest

from kpn_tf.node.conductor import Conductor
from kpn_tf.node.settings import Limits
from tests.node_journal import Site


class Network:
    """In place of the network's process: remembers the folders it was given, and how many slices lay in each."""

    def __init__(self):
        self.asked = []

    def ask(self, request, progress):
        folder = request["input"]
        self.asked.append(folder)
        return {"ok": True, "derived": [], "failed": 0, "reason": "none", "stopped": "", "seconds": 0.0}


class Lane:
    """A spool, and the steps that the node's threads take in it, one by one."""

    def __init__(self, folder, **limits):
        self.site = Site.made(folder, limits=Limits(**limits))
        self.network = Network()
        self.conductor = Conductor(
            self.site.settings, self.site.spool, self.site.journal, self.network, lambda: None
        )

    def served(self):
        """Senders of the series that were denoised, with their slices, in order."""
        spool, journal = self.site.spool, self.site.journal
        rows = {str(spool.originals(row["id"])): row for row in journal.all("SELECT * FROM series")}
        return [(rows[folder]["peer"], rows[folder]["slices"]) for folder in self.network.asked]

    def denoise_all(self):
        while self.conductor.denoise_series():
            pass


def test_a_sender_of_many_series_and_one_of_a_few_are_served_in_turn(tmp_path):
    lane = Lane(tmp_path)
    long_ago = time.time() - 1000.0
    for number in range(6):
        lane.site.receive(number, 1, long_ago, peer="MANY")
    for number in (10, 11):
        lane.site.receive(number, 2, long_ago, peer="FEW")
    lane.conductor.close_series()
    lane.denoise_all()
    many, few = ("MANY", 1), ("FEW", 2)
    assert lane.served() == [many, few, many, few, many, many, many, many]


@pytest.mark.parametrize("limits", [{"series_slices": 3}, {"series_gb": 15e-9}], ids=["slices", "bytes"])
def test_a_series_without_end_is_denoised_in_parts_and_others_come_between_them(tmp_path, limits):
    lane = Lane(tmp_path, **limits)  # A file of `Site` has 5 bytes.
    now = time.time()
    lane.site.receive(2, 2, now - 1000.0, peer="FEW")
    for slices in range(1, 8):
        # The same series, a slice longer; those that are there are known.
        lane.site.receive(1, slices, now, peer="MANY")
        lane.conductor.close_series()
    lane.denoise_all()
    assert lane.served() == [("FEW", 2), ("MANY", 3), ("MANY", 3)]
    notes = [row["note"] for row in lane.site.journal.all("SELECT note FROM series ORDER BY id")]
    assert [note.partition(";")[0] for note in notes[1:3]] == ["a part of its series: others follow"] * 2
    # The last part is complete after the quiet time, like any series.
    lane.site.journal.change("UPDATE series SET changed = changed - 1000 WHERE state = 'received'")
    lane.conductor.close_series()
    lane.denoise_all()
    assert lane.served()[-1] == ("MANY", 1)
    assert lane.site.journal.one("SELECT sum(slices) AS n FROM series WHERE peer = 'MANY'")["n"] == 7
