import json
import math
from dataclasses import asdict

import pytest

pytest.importorskip("triton")

from vsr.kernels.block import Strip
from vsr.kernels.configurations import CONVOLUTIONS, ENDS, STRIPS, fastest, from_json
from vsr.kernels.convolution import ConvTile
from vsr.kernels.ends import EndTile
from vsr.kernels.span import Tiles


def test_tiles_survive_the_way_to_json_and_back() -> None:
    for tiles in (Tiles(), Tiles(ConvTile(4, 8, whole=True), EndTile(stages=4), Strip(64, 4))):
        assert from_json(json.loads(json.dumps(asdict(tiles)))) == tiles
    for wrong in ("null", "[]", "{}", '{"conv": {"rows": 1}}'):
        assert from_json(json.loads(wrong)) is None
    assert from_json({**asdict(Tiles()), "end": {"no": 1}}) is None


def test_the_fastest_of_each_kind_is_kept_and_what_fails_never() -> None:
    def time(tiles: Tiles) -> float:
        if tiles.strip == STRIPS[0]:
            return math.inf  # does not fit on this card
        conv, end = CONVOLUTIONS.index(tiles.conv), ENDS.index(tiles.end)
        return abs(conv - 2) + end + (0.5 if tiles.strip == STRIPS[1] else 1)

    assert fastest(Tiles(), lambda tiles: math.inf) is None
    found = fastest(Tiles(end=ENDS[1]), time)
    assert found == Tiles(CONVOLUTIONS[2], ENDS[0], STRIPS[1])
