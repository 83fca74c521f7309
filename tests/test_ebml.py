"""Elements of EBML: what is written is read again, and damage is told from what is yet to come."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsr.ebml import (
    CLUSTER,
    CutShortError,
    Element,
    element_head,
    elements,
    number_element,
    read_element,
)

IDENTIFIERS = st.sampled_from([0xBF, 0x4DBB, 0x2AD7B1, CLUSTER])
ELEMENTS = st.builds(Element, IDENTIFIERS, st.binary(max_size=300), st.integers(1, 8))


@given(st.lists(ELEMENTS, max_size=5))
def test_what_is_written_is_read_again(parts):
    data = b"".join(part.encode() for part in parts)
    found = list(elements(data))
    assert [(part.id, part.body) for part in found] == [(part.id, part.body) for part in parts]
    assert b"".join(part.encode() for part in found) == data


@given(ELEMENTS, st.data())
def test_what_is_cut_is_said_to_be_cut(element, data):
    whole = element.encode()
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(CutShortError):
        read_element(part)


def test_a_checksum_is_made_right():
    """Of CRC-32 (RFC 8794, 11.3.1) over what stands behind it; both together leave its residue."""
    child = number_element(0x53AC, 1 << 33)
    outer = Element(CLUSTER, b"", 1).with_children([Element(0xBF, bytes(4), 1), child])
    checksum, same = outer.children()
    assert same == child
    assert zlib.crc32(child.encode() + checksum.body) == 0x2144DF1C


@pytest.mark.parametrize("damaged", [b"\0\x80", b"\x08\x80", b"\xbf\0"])
def test_what_is_no_element_is_refused(damaged):
    """An identifier is of up to four bytes, a size of up to eight."""
    with pytest.raises(ValueError, match="not EBML"):
        element_head(damaged)


def test_a_live_stream_does_not_know_its_lengths():
    head = element_head(CLUSTER.to_bytes(4) + b"\xff")
    assert head is not None
    assert (head.bytes, head.length) == (5, None)
    with pytest.raises(ValueError, match="unknown length"):
        read_element(CLUSTER.to_bytes(4) + b"\xff")
