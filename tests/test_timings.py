"""What was measured is kept, and what cannot be kept is measured again."""

import json
import math
from collections.abc import Callable
from functools import partial

import pytest

from vsr.timings import compare, remember, remembered, timings_path

NAME = "NVIDIA Card 5090/x, torch 2"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VSR_CACHE", str(tmp_path))


def test_what_was_measured_is_remembered_beside_what_was_before() -> None:
    assert remembered(NAME, "a") is None
    remember(NAME, "a", {"x": 1.5})
    remember(NAME, "b", [1])
    assert remembered(NAME, "a") == {"x": 1.5}
    assert remembered("another", "a") is None
    path = timings_path(NAME)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_file_is_ignored_and_written_again(damage) -> None:
    remember(NAME, "a", 1)
    timings_path(NAME).write_bytes(damage)
    assert remembered(NAME, "a") is None
    remember(NAME, "a", 2)
    assert json.loads(timings_path(NAME).read_text()) == {"a": 2}


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VSR_CACHE", str(tmp_path / "file"))
    remember(NAME, "a", 1)
    assert remembered(NAME, "a") is None


def test_what_another_process_measured_meanwhile_counts() -> None:
    def measured_by_another() -> float:
        remember(NAME, "ways", {"a": 1.5, "b": 2.5})
        return 9.5

    assert compare(NAME, "ways", {"a": measured_by_another, "b": lambda: 0.5}) == {
        "a": 1.5, "b": 2.5,
    }  # fmt: skip
    assert remembered(NAME, "ways") == {"a": 1.5, "b": 2.5}


def test_ways_are_timed_once_and_what_fails_is_slowest() -> None:
    asked: list[str] = []

    def timer(name: str, taken: float | None) -> Callable[[], float]:
        def time() -> float:
            asked.append(name)
            if taken is None:
                raise RuntimeError("no kernel image is available")
            return taken

        return time

    ways = {"a": timer("a", 2.5), "b": timer("b", None), "c": timer("c", 1.5)}
    for _ in range(2):
        assert compare(NAME, "ways", ways) == {"a": 2.5, "b": math.inf, "c": 1.5}
    assert asked == ["a", "b", "c"]
    json.loads(timings_path(NAME).read_text(), parse_constant=pytest.fail)  # Infinity is no JSON
    assert compare(NAME, "ways", {"c": ways["c"], "d": timer("d", 4.5)}) == {"c": 1.5, "d": 4.5}
    assert asked == ["a", "b", "c", "c", "d"]
    remember(NAME, "ways", {"c": "fast", "d": 4.5})
    assert compare(NAME, "ways", {"c": ways["c"]}) == {"c": 1.5}


def test_ways_take_turns_and_the_best_of_each_counts() -> None:
    asked: list[str] = []
    times = {"a": iter([5.5, 2.5, 4.5]), "b": iter([3.5, 6.5, 7.5])}

    def timer(name: str) -> float:
        asked.append(name)
        return next(times[name])

    ways = {name: partial(timer, name) for name in times}
    assert compare(NAME, "turns", ways, 3) == {"a": 2.5, "b": 3.5}
    assert asked == ["a", "b"] * 3
    assert remembered(NAME, "turns") == {"a": 2.5, "b": 3.5}
