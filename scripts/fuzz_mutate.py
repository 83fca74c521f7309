"""Damage to bytes and to text, the same for the same seed."""

import random
from collections.abc import Callable, Sequence

__all__ = ["damage", "damage_text"]

_HEAD = 1024  # bytes in which headers lie: half of all damage goes there
_NUMBERS = (
    0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63, 2**64 - 1,
)  # fmt: skip
_WORDS = (
    "0", "-1", "1e999", "nan", "9" * 30, "\0", "é", "", " ", "\n", "[", '"', "../../x", "%s",
)  # fmt: skip

_Damage = Callable[[random.Random, bytearray, Sequence[bytes]], None]


def damage(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A copy of ``data`` with one to four kinds of damage.

    Args:
        rng: Where all choices come from.
        data: What to damage.
        others: Files from which pieces may be spliced in.
    """
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        if damaged:
            rng.choice(_ALL)(rng, damaged, others)
    return bytes(damaged)


def damage_text(rng: random.Random, text: str) -> str:
    """A copy of ``text`` in which words are replaced, repeated or left out."""
    words = text.split(" ")
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(words))
        words[place] = rng.choice((*_WORDS, words[place] * 2, rng.choice(words), words[place][1:]))
    return " ".join(words)


def _place(rng: random.Random, data: bytearray) -> int:
    end = len(data) if rng.random() < 0.5 else min(len(data), _HEAD)
    return rng.randrange(end)


def _flip(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        data[_place(rng, data)] ^= 1 << rng.randrange(8)


def _number(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    width = rng.choice((1, 2, 4, 8))
    value = rng.choice(_NUMBERS) % (1 << 8 * width)
    start = _place(rng, data)
    data[start : start + width] = value.to_bytes(width, rng.choice(("big", "little")))


def _noise(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    start, length = _place(rng, data), rng.choice((1, 4, 16, 256))
    data[start : start + length] = rng.randbytes(length)


def _blank(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    start, length = _place(rng, data), rng.choice((4, 64, 1024))
    length = min(length, len(data) - start)
    data[start : start + length] = bytes(length)


def _truncate(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    del data[_place(rng, data) :]


def _remove(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    start = _place(rng, data)
    del data[start : start + rng.choice((1, 2, 16, 512))]


def _repeat(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    start = _place(rng, data)
    data[start:start] = data[start : start + rng.choice((1, 8, 188, 2048))]


def _splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    if not others:
        return
    other = rng.choice(others)
    cut = rng.randrange(len(other))
    start, length = _place(rng, data), rng.choice((16, 256, 4096, 1 << 20))
    end = start + length if rng.random() < 0.5 else start
    data[start:end] = other[cut : cut + length]


_ALL: tuple[_Damage, ...] = (
    _flip, _flip, _flip, _number, _number, _noise, _blank, _truncate, _remove, _repeat, _splice,
)  # fmt: skip
