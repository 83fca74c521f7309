"""What is timed, how often, and in which order."""

import time

import pytest
import torch

from vsr.stopwatch import in_turn, milliseconds

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only where a call says so."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def lasting(clock, *seconds):
    """A call that lasts so long each time it is made."""
    left = iter(seconds)

    def call():
        clock[0] += next(left)

    return call


def test_the_first_call_does_not_count(clock):
    assert milliseconds(lasting(clock, 9, 1, 2, 3), CPU, 3) == pytest.approx(2000)


def test_no_more_calls_than_there_is_time_for(clock):
    assert milliseconds(lasting(clock, 0, 2, 3, 4), CPU, 10, enough=5000) == pytest.approx(2500)
    assert milliseconds(lasting(clock, 0, 7), CPU, 10, enough=0) == pytest.approx(7000)


def test_calls_take_turns(clock):
    order = []

    def noting(name, call):
        def noted():
            order.append(name)
            call()

        return noted

    calls = {
        "a": noting("a", lasting(clock, 8, 1, 2, 6)),
        "b": noting("b", lasting(clock, 8, 3, 3, 4)),
    }
    assert in_turn(calls, CPU, 3) == pytest.approx({"a": 2000, "b": 3000})
    assert order == ["a", "b"] * 4


@pytest.mark.cuda
def test_a_gpu_is_waited_for():
    device = torch.device("cuda", 0)
    a = torch.randn(4096, 4096, device=device)
    once = milliseconds(lambda: a @ a, device)
    many = milliseconds(lambda: [a @ a for _ in range(50)], device)
    assert many > 10 * once
