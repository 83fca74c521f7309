"""The programs of an MPEG transport stream: what they are called, and which streams they have.

FFmpeg knows, and PyAV does not tell. So the tables at the beginning of a file are read here:
ISO/IEC 13818-1, 2.4.4, says which streams there are, ETSI EN 300 468, 5.2.3, what they are called.
"""

import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from av.container import InputContainer

from vsr.encoding.edits import is_file

__all__ = ["Program", "programs_of"]

_SEARCHED = 16 << 20
"""Bytes in which the tables are looked for; names are told every two seconds at the least."""
_LAYOUTS = ((188, 0), (192, 4), (204, 0))
"""Bytes of a packet, and of what stands ahead of its first byte; 192 is Blu-ray's."""
_SYNC = 0x47
_FEWEST = 5
"""Packets in a row that are no accident."""
_PAT, _SDT = 0x00, 0x11
"""Packet identifiers of the tables of programs and of their names."""
_SERVICE = 0x48
"""The descriptor that holds both names."""
_MADE_UP = ("", "Service01", "FFmpeg")
"""Name and provider where there are none, as broadcasters and FFmpeg write them."""
_ENCODINGS = {
    **{number: f"iso8859_{number + 4}" for number in (*range(1, 8), *range(9, 12))},
    0x11: "utf_16_be", 0x12: "euc_kr", 0x13: "gb2312", 0x14: "big5", 0x15: "utf_8",
}  # fmt: skip
"""Encodings of text by the byte ahead of it (EN 300 468, A.2)."""
_ACCENTS = dict(
    zip((*range(0xC1, 0xC9), 0xCA, 0xCB, 0xCD, 0xCE, 0xCF),
        "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u0327\u030b\u0328\u030c",
        strict=True)
)  # fmt: skip
"""Of ISO 6937, ahead of their letters, which is how text is encoded that does not say."""


@dataclass(slots=True)
class Program:
    """One program of a transport stream."""

    name: str = ""
    """What the service is called; empty if nothing says."""
    provider: str = ""
    """Who sends it; the same."""
    streams: list[int] = field(default_factory=list)
    """Indices of its streams."""

    @property
    def tags(self) -> dict[str, str]:
        """The same as FFmpeg's muxer of MPEG-TS takes it, without what it has made up itself."""
        tags = {"service_name": self.name, "service_provider": self.provider}
        return {key: value for key, value in tags.items() if value not in _MADE_UP}

    def describe(self) -> str:
        """Name and streams, in words."""
        listed = ", ".join(map(str, self.streams))
        several = "stream" if len(self.streams) == 1 else "streams"
        return f"{self.name or 'one without a name'} ({several} {listed})"


def programs_of(container: InputContainer) -> list[Program]:
    """The programs of ``container`` that have streams in it, as the file lists them.

    None of what is no transport stream, or no file: a pipe is not read twice.
    """
    if container.format.name != "mpegts" or not is_file(container):
        return []
    data = b""
    with suppress(OSError), Path(container.name.removeprefix("file:")).open("rb") as file:
        data = file.read(_SEARCHED)
    tables = _Tables()
    tables.read(data)
    found = []
    for number, pids in tables.streams.items():
        program = Program(*tables.names.get(number, ("", "")))
        program.streams = [stream.index for stream in container.streams if stream.id in pids]
        if program.streams:
            found.append(program)
    return found


class _Tables:
    """What the tables say, by the numbers of the programs."""

    def __init__(self) -> None:
        self.streams: dict[int, list[int]] = {}
        self.names: dict[int, tuple[str, str]] = {}
        self._maps: dict[int, int] = {}  # identifiers of packets, by program
        self._named = False

    def read(self, data: bytes) -> None:
        """Read packets until all is known, or to the end of ``data``."""
        begun: dict[int, bytes] = {}
        for pid, starts, payload in _packets(data):
            if pid not in (_PAT, _SDT, *self._maps.values()):
                continue
            if starts and payload:
                begun[pid] = payload[1 + payload[0] :]  # what is ahead ends another section
            elif pid in begun:
                begun[pid] += payload
            section = begun.get(pid, b"")
            if len(section) >= 3 and len(section) >= (end := 3 + _twelve(section, 1)):
                with suppress(IndexError):  # a table that is damaged
                    self._take(pid, section[: end - 4])  # without the sum that checks it
                del begun[pid]
            if self._named and self._maps and self._maps.keys() <= self.streams.keys():
                return

    def _take(self, pid: int, section: bytes) -> None:
        table, number = section[0], _sixteen(section, 3)
        if pid == _PAT and table == 0x00:
            for at in range(8, len(section) - 3, 4):
                if _sixteen(section, at):  # 0 is the table of the network
                    self._maps[_sixteen(section, at)] = _sixteen(section, at + 2) & 0x1FFF
        elif pid == _SDT and table == 0x42:
            self._take_names(section)
            self._named = section[6] == section[7]  # the last of its sections
        elif table == 0x02:
            at, pids = 12 + _twelve(section, 10), self.streams.setdefault(number, [])
            while at + 5 <= len(section):
                pids.append(_sixteen(section, at + 1) & 0x1FFF)
                at += 5 + _twelve(section, at + 3)

    def _take_names(self, section: bytes) -> None:
        at = 11
        while at + 5 <= len(section):
            number, end = _sixteen(section, at), at + 5 + _twelve(section, at + 3)
            at += 5
            while at + 2 <= end:
                if section[at] == _SERVICE:
                    provider, rest = _split(section[at + 3 : end])
                    self.names[number] = _decoded(_split(rest)[0]), _decoded(provider)
                at += 2 + section[at + 1]
            at = end


def _packets(data: bytes) -> Iterator[tuple[int, bool, bytes]]:
    """Of each packet its identifier, whether a section begins in it, and what it carries."""
    for size, ahead in _LAYOUTS:
        for start in range(ahead, ahead + size):
            if data[start : start + _FEWEST * size : size] == bytes([_SYNC]) * _FEWEST:
                break
        else:
            continue
        for at in range(start, len(data) - 187, size):
            pid = _sixteen(data, at + 1) & 0x1FFF
            begin = 5 + data[at + 4] if data[at + 3] & 0x20 else 4
            carried = data[at + begin : at + 188] if data[at + 3] & 0x10 else b""
            yield pid, bool(data[at + 1] & 0x40), carried
        return


def _sixteen(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]


def _twelve(data: bytes, at: int) -> int:
    return _sixteen(data, at) & 0xFFF


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Text whose length is ahead of it, and what follows."""
    return data[1 : 1 + data[0]], data[1 + data[0] :]


def _decoded(text: bytes) -> str:
    """Text of DVB; without what tells a display how to show it."""
    if text[:1] == b"\x10":
        said = f"iso8859_{text[2]}" if len(text) > 2 else "ascii"
        found = _read(text[3:], said)
    elif text[:1] and text[0] < 0x20:
        found = _read(text[1:], _ENCODINGS.get(text[0], "ascii"))
    else:
        found = _iso6937(text)
    return "".join(c for c in found if unicodedata.category(c) != "Cc").strip()


def _read(text: bytes, encoding: str) -> str:
    with suppress(LookupError):
        return text.decode(encoding, "replace")
    return text.decode("ascii", "replace")


def _iso6937(text: bytes) -> str:
    """Text with accents ahead of letters; its signs are those of Latin-1, but for a few."""
    found, accent = "", ""
    for byte in text:
        if byte in _ACCENTS:
            accent = _ACCENTS[byte]
        else:
            found += bytes([byte]).decode("latin_1") + accent
            accent = ""
    return unicodedata.normalize("NFC", found)
