"""Headers and numbers of NUT: what is written is read again, and a cut is told from damage."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr.nut import (
    CHECKSUM_BYTES,
    LONG,
    MAIN,
    IncompleteError,
    checksum,
    encode_header,
    encode_number,
    read_head,
    read_number,
)


@given(st.integers(0, 1 << 70), st.integers(1, 12), st.binary(max_size=3))
def test_numbers_are_read_as_they_were_written(value, least, before):
    data = before + encode_number(value, least)
    assert read_number(data + b"\x01", len(before)) == (value, len(data))
    assert len(data) - len(before) == max(least, -(-value.bit_length() // 7))
    for end in range(len(before), len(data)):
        with pytest.raises(IncompleteError):
            read_number(data[:end], len(before))


@pytest.mark.parametrize("size", [0, 1, 123, 124, LONG - CHECKSUM_BYTES, LONG, 3 * LONG])
@pytest.mark.parametrize("length_bytes", [1, 4])
def test_headers_are_read_as_they_were_written(size, length_bytes):
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    data = b"ahead" + encode_header(MAIN, body, length_bytes)
    head = read_head(data, 5)
    assert head.end == len(data)
    assert data[head.start :] == body + checksum(body)
    assert head.length_bytes >= length_bytes
    is_long = size + CHECKSUM_BYTES > LONG
    assert head.start == 5 + len(MAIN) + head.length_bytes + CHECKSUM_BYTES * is_long
    for end in range(5, head.start):
        with pytest.raises(IncompleteError):
            read_head(data[:end], 5)
