"""Killed, flooded, out of disk: the short form of what `make soak` does for an hour."""

import os

import pytest

from tests import node_scenarios
from tests.node_peers import needs_orthanc

pytestmark = [needs_orthanc, pytest.mark.slow]


def test_a_node_that_is_killed_at_random_loses_nothing_and_sends_nothing_twice_with_other_content(tmp_path):
    measures = node_scenarios.chaos(tmp_path, kills=5)
    assert measures["slices"] > 0


def test_eight_scanners_at_once_are_all_served(tmp_path):
    measures = node_scenarios.load(tmp_path, associations=8, slices=48, rows=52, columns=44)
    assert measures["slices"] == 48


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_disk_that_fills_refuses_and_takes_the_rest_when_there_is_room(tmp_path):
    measures = node_scenarios.full_disk(tmp_path, slices=40, megabytes=44, keep_free_gb=0.03)
    assert measures["refused"] > 0
