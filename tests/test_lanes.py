"""Pictures that a CPU renders at the same time."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from vsr.engine.lanes import in_lanes, share_of_cores

TIME_LIMIT = 20.0


def test_results_come_in_order_though_later_ones_are_ready_first() -> None:
    second_is_done = threading.Event()

    def work(lane: int, item: int) -> int:
        if item == 0:
            assert second_is_done.wait(TIME_LIMIT), "nothing runs beside the first"
        if item == 1:
            second_is_done.set()
        return item * item

    assert list(in_lanes(range(7), work, 2)) == [number**2 for number in range(7)]


def test_a_lane_does_one_thing_at_a_time() -> None:
    busy = [threading.Lock() for _ in range(3)]

    def work(lane: int, item: int) -> int:
        assert busy[lane].acquire(blocking=False), f"lane {lane} is asked for two things"
        threading.Event().wait(0.002 * (item % 3))
        busy[lane].release()
        return lane

    assert set(in_lanes(range(30), work, 3)) == {0, 1, 2}


def test_a_result_does_not_wait_for_the_next_item() -> None:
    delivered, waited = threading.Event(), list[bool]()

    def items() -> Iterator[int]:
        yield 0
        waited.append(delivered.wait(TIME_LIMIT))
        yield 1

    results = in_lanes(items(), lambda _, item: item, 2)
    assert next(results) == 0
    delivered.set()
    assert [*results, *waited] == [1, True]


def test_what_costs_nothing_keeps_no_lane_from_working() -> None:
    """Of a film on twos every other frame is new: these go on two lanes."""
    together = threading.Barrier(2, timeout=TIME_LIMIT)

    def work(lane: int, item: int) -> int:
        if item % 3 == 0:
            together.wait()
        return item

    results = in_lanes(range(24), work, 2, costs_nothing=lambda item: item % 3 > 0)
    assert list(results) == list(range(24))


def test_no_more_is_begun_ahead_than_has_room() -> None:
    begun = list[int]()

    def work(lane: int, item: int) -> int:
        begun.append(item)
        return item

    with closing(in_lanes(range(30), work, 2)) as results:
        assert next(results) == 0
        threading.Event().wait(0.05)
        assert max(begun) <= 4  # the one that was given made room for one
    assert max(begun) <= 5


def test_what_came_before_an_error_is_delivered() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the disk is gone")

    results = in_lanes(items(), lambda _, item: item, 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)


def test_an_error_in_a_lane_comes_at_its_place() -> None:
    def work(lane: int, item: int) -> int:
        if item == 2:
            raise ValueError("item 2")
        return item

    results = in_lanes(range(9), work, 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(results)


def test_closing_waits_for_what_is_being_made() -> None:
    begun, finished = threading.Event(), threading.Event()

    def work(lane: int, item: int) -> int:
        if item == 1:
            begun.set()
            threading.Event().wait(0.1)
            finished.set()
        return item

    results = in_lanes(range(9), work, 2)
    assert next(results) == 0
    assert begun.wait(TIME_LIMIT)
    results.close()
    assert finished.is_set()
    assert not [one for one in threading.enumerate() if one.name.startswith("vsr-lane")]


def test_lanes_share_the_threads_and_give_them_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    try:
        threads = list(in_lanes(range(4), lambda *_: torch.get_num_threads(), 2))
        assert threads == [3, 3, 3, 3]
        with share_of_cores(8) as share:
            assert share == 1
        seen: list[int] = []
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert [torch.get_num_threads(), *seen] == [6, 6]
    finally:
        torch.set_num_threads(before)
