"""CRC-32 with the highest bit first: what its definition gives, bit by bit."""

from hypothesis import given
from hypothesis import strategies as st

from vsr.crc import crc32


def by_definition(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x1_04C1_1DB7 if value & 0x8000_0000 else 0)
    return value


@given(st.binary(max_size=300))
def test_it_is_that_of_the_definition(data):
    assert crc32(data) == by_definition(data)


def test_the_usual_nine_bytes():
    """Their CRC-32/POSIX is published: ours, inverted at the end."""
    assert crc32(b"123456789") == 0x765E7680 ^ 0xFFFFFFFF
    assert crc32(b"") == 0


@given(st.binary(max_size=100))
def test_what_carries_its_checksum_comes_to_zero(data):
    assert crc32(data + crc32(data).to_bytes(4)) == 0
