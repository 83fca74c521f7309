"""The thread boundary."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from vsr.prefetch import prefetch
from vsr.progress import Boundary


def boundary(name="count"):
    return Boundary(name)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    """Whatever happens to a run, its threads end; those of other tests are their own affair."""
    before = set(threading.enumerate())
    yield
    assert [t for t in threading.enumerate() if t.name.startswith("vsr-") and t not in before] == []


class Upstream:
    """Counts up, notes when it is closed, fails at ``fail_at``."""

    def __init__(self, count: int, fail_at: int | None = None) -> None:
        self.count, self.fail_at = count, fail_at
        self.made, self.closed = 0, False

    def __iter__(self) -> Iterator[int]:
        try:
            for index in range(self.count):
                if index == self.fail_at:
                    raise RuntimeError("the tape tore")
                self.made += 1
                yield index
        finally:
            self.closed = True


@pytest.mark.parametrize("depth", [1, 2, 8])
def test_order_is_kept(depth):
    with closing(prefetch(Upstream(100), depth=depth, boundary=boundary())) as items:
        assert list(items) == list(range(100))


@pytest.mark.parametrize("depth", [1, 2, 8])
def test_error_comes_after_the_items_before_it_and_names_the_stage(depth):
    seen: list[int] = []
    with (
        closing(
            prefetch(Upstream(9, fail_at=5), depth=depth, boundary=boundary("decode"))
        ) as items,
        pytest.raises(RuntimeError, match="the tape tore") as caught,
    ):
        seen.extend(items)
    with closing(
        prefetch(Upstream(9, fail_at=5), depth=depth, boundary=boundary("decode"))
    ) as items:
        for expected in range(5):
            assert next(items) == expected
        with pytest.raises(RuntimeError):
            next(items)
    assert "in stage 'decode'" in caught.value.__notes__


@pytest.mark.parametrize("depth", [1, 2, 8])
def test_early_stop_closes_upstream_and_leaves_no_thread(depth):
    upstream = Upstream(10_000)
    with closing(prefetch(upstream, depth=depth, boundary=boundary())) as items:
        assert next(items) == 0
    assert upstream.closed
    assert upstream.made <= depth + 3


def test_early_stop_closes_a_chain():
    upstream = Upstream(10_000)
    with (
        closing(prefetch(upstream, depth=2, boundary=boundary("a"))) as first,
        closing(prefetch((2 * item for item in first), depth=2, boundary=boundary("b"))) as second,
    ):
        assert next(second) == 0
        assert next(second) == 2
    assert upstream.closed


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_what_would_end_a_thread_in_silence_is_an_error_with_its_cause(kind):
    def upstream():
        yield 1
        raise kind("why")

    with closing(prefetch(upstream(), depth=2, boundary=boundary("decode"))) as items:
        assert next(items) == 1
        with pytest.raises(RuntimeError, match=f"stage 'decode' has died of {kind.__name__}") as e:
            next(items)
    assert isinstance(e.value.__cause__, kind)
    assert e.value.__cause__.args == ("why",)
    assert e.value.__cause__.__traceback__ is not None


def test_reader_holds_the_writer_back():
    upstream, clock = Upstream(50), boundary()
    with closing(prefetch(upstream, depth=3, boundary=clock)) as items:
        next(items)
        time.sleep(0.2)
        assert upstream.made <= 3 + 2  # queued, and one in the thread's hand
    assert clock.blocked_put > 0.1
