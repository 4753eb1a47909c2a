"""A belt keeps order, never holds more than its size, and lets nobody wait for ever."""

import threading

import pytest

from kpn_tf.batch.belt import Belt, BeltStoppedError


def test_items_leave_in_the_order_they_came():
    belt = Belt(3)
    for item in (5, None, "x"):
        belt.put(item)
    assert [belt.get() for _ in range(3)] == [5, None, "x"]


def test_a_producer_is_never_more_than_the_size_ahead():
    belt, put = Belt(2), []

    def produce():
        for item in range(20):
            belt.put(item)
            put.append(item)

    producer = threading.Thread(target=produce)
    producer.start()
    for taken in range(20):
        assert belt.get() == taken
        assert len(put) <= taken + 1 + 2 + 1
    producer.join()


@pytest.mark.parametrize("wait", [lambda belt: belt.get(), lambda belt: belt.put(2)], ids=["get", "put"])
def test_who_waits_wakes_when_the_belt_stops(wait):
    belt, woke = Belt(1), threading.Event()
    if wait.__code__.co_names == ("put",):
        belt.put(1)

    def waiter():
        try:
            wait(belt)
        except BeltStoppedError:
            woke.set()

    thread = threading.Thread(target=waiter)
    thread.start()
    belt.stop()
    thread.join(timeout=300)
    assert woke.is_set()


def test_a_stopped_belt_takes_and_gives_nothing():
    belt = Belt(2)
    belt.put(1)
    belt.stop()
    with pytest.raises(BeltStoppedError):
        belt.get()
    with pytest.raises(BeltStoppedError):
        belt.put(2)
