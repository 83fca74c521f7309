"""The order of slots, without a GPU; tests/test_engine.py runs them on one."""

from collections.abc import Callable
from unittest.mock import MagicMock

import pytest
import torch

from vsr import slots
from vsr.frame import Frame
from vsr.slots import Ring

FrameMaker = Callable[..., Frame]


class FakeSlot:
    def __init__(self, frame: Frame, outputs: object, ring: Ring) -> None:
        self.frame, self.in_use = frame, False

    fits = slots.Slot.fits

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        return self.frame.planes


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Ring:
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    monkeypatch.setattr(slots, "Slot", FakeSlot)
    return Ring(torch.device("cuda", 0), 4)


def test_slots_are_used_in_turn(ring: Ring, make_frame: FrameMaker) -> None:
    frames = [make_frame("yuv420p", 16, 12) for _ in range(12)]
    taken = [ring.take(frame, []) for frame in frames]
    assert len({id(slot) for slot in taken[:4]}) == 4
    assert taken[4:8] == taken[:4]
    assert taken[8:] == taken[:4]


@pytest.mark.parametrize(
    "other", [("yuv420p", 18, 12), ("nv12", 16, 12), ("gray", 16, 12), ("yuv420p10le", 16, 12)]
)
def test_slots_are_made_anew_for_another_geometry(
    ring: Ring, make_frame: FrameMaker, other: tuple[str, int, int]
) -> None:
    old = [ring.take(make_frame("yuv420p", 16, 12), []) for _ in range(4)]
    new = ring.take(make_frame(*other), [])
    assert new not in old
    assert ring.take(make_frame("yuv420p", 16, 12), []) is old[1]


def test_slots_that_were_not_collected_are_left_alone(ring: Ring, make_frame: FrameMaker) -> None:
    first = ring.take(make_frame("yuv420p", 16, 12), [])
    first.in_use = True
    later = [ring.take(make_frame("yuv420p", 16, 12), []) for _ in range(4)]
    assert first not in later


def test_what_the_caller_made_is_waited_for(ring: Ring) -> None:
    """The network's weights were put on the GPU on another stream."""
    waits: MagicMock = ring.computing.wait_stream  # type: ignore[assignment]
    assert waits.call_count == 1
