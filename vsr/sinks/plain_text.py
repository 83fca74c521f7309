"""Subtitles as plain text, which is what SubRip and mov_text share."""

import re
from typing import Any

from av.packet import Packet

__all__ = ["as_plain_text"]

_STYLE = re.compile(rb"</?(?:[ibus]|font)\b[^<>]*>|\{\\[^{}]*\}", re.IGNORECASE)
"""What SubRip says of style: HTML's tags, and Advanced SubStation's ``{\\an8}``."""


def as_plain_text(packet: "Packet[Any]", codec: str) -> tuple["Packet[Any]", bool]:
    """A subtitle without its style, and whether it had any.

    A player shows SubRip's tags as they stand where it expects plain text. In mov_text, style lies
    behind the text, whose length comes first, and stays behind when that is unwrapped.
    """
    data = bytes(packet)
    if codec == "mov_text":
        return packet, len(data) > 2 + int.from_bytes(data[:2], "big")
    text = _STYLE.sub(b"", data)
    if text == data:
        return packet, False
    plain: Packet[Any] = Packet(text)
    plain.pts, plain.dts, plain.duration = packet.pts, packet.dts, packet.duration
    plain.time_base = packet.time_base
    return plain, True
