import threading
import weakref

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from vsr.constants import collected, constant, hold


class Thing:
    def __init__(self, name: str) -> None:
        self.name = name


def test_constants_are_made_once_and_the_oldest_go() -> None:
    made = []

    @constant(2)
    def thing(name: str) -> Thing:
        made.append(name)
        return Thing(name)

    first = thing("a")
    assert thing("a") is first
    thing("b")
    thing("c")
    assert thing("a") is not first
    assert made == ["a", "b", "c", "a"]
    assert thing.__name__ == "thing"


def test_what_a_trace_makes_is_not_kept() -> None:
    """It has a shape, and no content."""

    @constant(4)
    def counted(length: int) -> Tensor:
        return torch.arange(length)

    before = counted(3)
    with FakeTensorMode():
        assert counted(3) is before
        assert isinstance(counted(5), FakeTensor)
    assert counted(5).tolist() == [0, 1, 2, 3, 4]


def test_what_is_asked_for_in_a_capture_is_kept_with_it() -> None:
    thing = constant(1)(Thing)
    other, gone = weakref.ref(thing("other")), weakref.ref(thing("gone"))
    assert other() is None  # there is room for one
    with collected() as found:
        thing("gone")
        hold("deliver")
    thing("next")
    assert [getattr(value, "name", value) for value in found] == ["gone", "deliver"]
    assert gone() is not None
    found.clear()
    assert gone() is None
    thing("next")
    hold("nothing")
    assert not found


def test_nothing_is_made_in_a_capture() -> None:
    """It would be recorded, not computed, and handed out as if it were there."""
    thing = constant(1)(Thing)
    with collected(), pytest.raises(RuntimeError, match="left its cache before the capture"):
        thing("a")
    assert thing("a").name == "a"


def test_other_threads_go_on_meanwhile() -> None:
    thing = constant(4)(Thing)
    names = []
    with collected() as found:
        other = threading.Thread(target=lambda: names.append(thing("a").name))
        other.start()
        other.join()
    assert names == ["a"]
    assert not found
