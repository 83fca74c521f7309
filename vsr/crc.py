"""CRC-32 with the highest bit first, as FFV1 and NUT use it."""

import zlib

__all__ = ["crc32"]

_SEED = 0xFFFFFFFF
# zlib feeds the bits of a byte into the CRC from the bottom: mirrored bytes give the mirrored CRC.
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def crc32(data: bytes) -> int:
    """The CRC of ``data``: polynomial 0x04C11DB7, from 0, not inverted at the end."""
    # The seed and the inversion undo those built into zlib, which starts from all ones.
    mirrored = zlib.crc32(data.translate(_MIRRORED), _SEED) ^ _SEED
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED))
