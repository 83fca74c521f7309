"""How long the pieces of a NUT stream are: its headers and its frames.

The length of a frame stands in the table of the main header, by the byte that the frame begins
with, but for what the frame says itself (NUT open container format, "main header" and "frame").
"""

from dataclasses import dataclass

from vsr.nut import (
    CHECKSUM_BYTES,
    LONG,
    MAIN,
    NUT_MAGIC,
    STARTCODE_BYTES,
    IncompleteError,
    read_head,
    read_number,
)

__all__ = ["NUT_MAGIC", "NutMeasure"]

_CODES = 256
_CODED_PTS, _STREAM_ID, _SIZE_MSB, _CHECKSUM, _RESERVED = 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7
_HEADER_IDX, _MATCH_TIME, _CODED, _INVALID = 1 << 10, 1 << 11, 1 << 12, 1 << 13


@dataclass(frozen=True, slots=True)
class _FrameCode:
    """What the first byte of a frame says."""

    flags: int
    factor: int
    """Of the upper part of the length."""
    lower: int
    reserved: int
    header: int
    """Which beginning is left out, of those that the main header lists."""


class _Cursor:
    """Numbers from bytes, one after the other."""

    def __init__(self, data: bytes, position: int = 0) -> None:
        self._data, self.position = data, position

    def number(self) -> int:
        """The next number."""
        value, self.position = read_number(self._data, self.position)
        return value

    def skip(self, count: int) -> None:
        """Leave bytes out."""
        self.position += count
        if self.position > len(self._data):
            raise IncompleteError


class NutMeasure:
    """Reads the head of a piece; a :class:`vsr.sources.breaks.Measure`."""

    def __init__(self) -> None:
        self._codes: list[_FrameCode] = []
        self._left_out = [0]
        """Bytes of each beginning."""
        self._begun = False

    def __call__(self, head: bytes) -> tuple[int, int] | None:
        """Bytes of the head and of what follows it; None if ``head`` is too short.

        Raises:
            ValueError: it is no head.
        """
        if not self._begun:
            self._begun = len(head) >= len(NUT_MAGIC)
            return (len(NUT_MAGIC), 0) if self._begun else None
        try:
            return self._header(head) if head[:1] == b"N" else self._frame(head)
        except IncompleteError:
            return None

    def _header(self, head: bytes) -> tuple[int, int]:
        _, start, end = read_head(head)
        if head[:STARTCODE_BYTES] != MAIN:
            return start, end - start
        if end > len(head):
            raise IncompleteError
        try:
            self._read_main(_Cursor(head[: end - CHECKSUM_BYTES], start))
        except IncompleteError as error:
            raise ValueError("the main header is damaged") from error
        return end, 0

    def _read_main(self, cursor: _Cursor) -> None:
        if cursor.number() > 3:
            cursor.number()  # the minor version
        cursor.number()  # streams
        cursor.number()  # the largest distance
        for _ in range(2 * cursor.number()):  # time bases
            cursor.number()
        self._codes = _read_codes(cursor)
        self._left_out = [0]
        for _ in range(cursor.number()):
            self._left_out.append(cursor.number())
            cursor.skip(self._left_out[-1])

    def _frame(self, head: bytes) -> tuple[int, int]:
        if not self._codes:
            raise ValueError("a frame ahead of the main header")
        code, cursor = self._codes[head[0]], _Cursor(head, 1)
        flags = code.flags ^ (cursor.number() if code.flags & _CODED else 0)
        if flags & _INVALID:
            raise ValueError("no frame begins so")

        def said(flag: int, otherwise: int = 0) -> int:
            return cursor.number() if flags & flag else otherwise

        said(_STREAM_ID)
        said(_CODED_PTS)
        length = code.lower + code.factor * said(_SIZE_MSB)
        said(_MATCH_TIME)
        header = said(_HEADER_IDX, code.header)
        for _ in range(said(_RESERVED, code.reserved)):
            cursor.number()
        cursor.skip(CHECKSUM_BYTES if flags & _CHECKSUM else 0)
        return cursor.position, length - self._beginning(header, length)

    def _beginning(self, header: int, length: int) -> int:
        """Bytes of a frame that the main header holds for it."""
        if header >= len(self._left_out):
            raise ValueError("no such beginning")
        left_out = 0 if length > LONG else self._left_out[header]
        if length < left_out:
            raise ValueError("shorter than its beginning")
        return left_out


def _read_codes(cursor: _Cursor) -> list[_FrameCode]:
    codes: list[_FrameCode] = []
    factor, header = 1, 0
    while len(codes) < _CODES:
        flags, count = cursor.number(), cursor.number()
        fields = [cursor.number() for _ in range(count)]  # pts, factor, stream, length, ...
        factor = fields[1] if count > 1 else factor
        lower = fields[3] if count > 3 else 0
        reserved = fields[4] if count > 4 else 0
        repeated = fields[5] if count > 5 else factor - lower
        header = fields[7] if count > 7 else header
        if repeated <= 0:
            raise ValueError("a table without an end")
        for step in range(repeated):
            if len(codes) == ord("N"):  # startcodes begin so
                codes.append(_FrameCode(_INVALID, 1, 0, 0, 0))
            if len(codes) < _CODES:
                codes.append(_FrameCode(flags, factor, lower + step, reserved, header))
    return codes
