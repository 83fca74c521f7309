"""Caches of patches: whole, resumable, and drawn from as they say."""

import json
import threading

import numpy as np
import pytest
import torch


@pytest.fixture
def items(scripts):
    """Makes a plan of random pictures."""

    def make(count=5, frames=2, tile=16, scale=2, about=None, fail_at=None):
        def item(index):
            if index == fail_at:
                raise KeyboardInterrupt
            torch.manual_seed(index)
            shape = (frames, 3, tile, tile)
            high = torch.randint(0, 256, (frames, 3, tile * scale, tile * scale))
            return torch.randint(0, 256, shape).byte(), high.byte()

        return scripts("training.cache").Items(
            count, frames, tile, scale, item, about or {"seed": 1}
        )

    return make


def test_a_cache_holds_what_was_made_and_is_made_once(scripts, items, tmp_path):
    cache, made = scripts("training.cache"), list[int]()
    plan = items()
    found = cache.make_cache(tmp_path / "c", plan, made.append)
    assert made == [0, 1, 2, 3, 4]
    for index in range(5):
        low, high = plan.make(index)
        assert np.array_equal(found.low[index], low.numpy())
        assert np.array_equal(found.high[index], high.numpy())
        assert np.array_equal(found.detail[index], cache.detail_of(high, 2))
    cache.make_cache(tmp_path / "c", plan, made.append)
    assert made == [0, 1, 2, 3, 4]


def test_a_cache_that_was_interrupted_ends_with_the_same_bytes(
    scripts, items, tmp_path, monkeypatch
):
    cache, made = scripts("training.cache"), list[int]()
    monkeypatch.setattr(cache, "_SAVE_EVERY", 2)
    with pytest.raises(KeyboardInterrupt):
        cache.make_cache(tmp_path / "halves", items(fail_at=3), made.append)
    cache.make_cache(tmp_path / "halves", items(), made.append)
    cache.make_cache(tmp_path / "whole", items(), lambda _: None)
    assert made == [0, 1, 2, 2, 3, 4]
    for name in ("low.npy", "high.npy", "detail.npy", "about.json"):
        halves, whole = (tmp_path / folder / name for folder in ("halves", "whole"))
        assert halves.read_bytes() == whole.read_bytes()


def test_two_trainings_that_want_one_cache_make_it_once(scripts, items, tmp_path):
    make_cache, made, found = scripts("training.cache").make_cache, list[int](), []
    folder, both = tmp_path / "c", []

    def other_comes(index):
        made.append(index)
        if index == 0:
            other = threading.Thread(
                target=lambda: found.append(make_cache(folder, items(), made.append))
            )
            other.start()
            other.join(0.3)  # it waits for us
            both.append(other)

    mine = make_cache(folder, items(), other_comes)
    both[0].join(30)
    assert made == [0, 1, 2, 3, 4]
    assert np.array_equal(mine.low, found[0].low)
    assert np.array_equal(mine.detail, found[0].detail)


def test_a_cache_of_something_else_is_refused(scripts, items, tmp_path):
    cache = scripts("training.cache")
    cache.make_cache(tmp_path / "c", items(), lambda _: None)
    with pytest.raises(SystemExit, match="another recipe"):
        cache.make_cache(tmp_path / "c", items(about={"seed": 2}), lambda _: None)
    assert json.loads((tmp_path / "c" / "about.json").read_text())["about"] == {"seed": 1}


@pytest.fixture
def sampler(scripts, tmp_path):
    """Patches of 16 from two pools whose pixels tell where they lie."""

    def make(detail=None, choices=1, patch=16, gray_share=0.0):
        pools = []
        for number, share in ((0, 0.75), (1, 0.25)):
            place = torch.arange(32 * 32).view(32, 32)
            channels = [place // 32, place % 32, torch.full((32, 32), number)]
            low = torch.stack(channels).byte()[None, None]
            high = low.repeat_interleave(2, 3).repeat_interleave(2, 4)
            cells = np.ones((1, 4, 4), np.float32) if detail is None else detail
            cache = scripts("training.cache").Cache(low.numpy(), high.numpy(), cells)
            pool = scripts("training.sampler").Pool
            pools.append(pool.of(cache, share, patch, torch.device("cpu")))
        return scripts("training.sampler").Sampler(pools, 2, patch, choices, gray_share)

    return make


def test_patches_are_turned_squares_of_their_pool(sampler):
    low, high = sampler().batch(400, np.random.default_rng(0))
    assert low.shape == (400, 3, 16, 16)
    assert high.shape == (400, 3, 32, 32)
    share = (low[:, 2, 0, 0] > 0).float().mean()
    assert 0.18 < share < 0.32
    shrunk = high[:, :, ::2, ::2]
    assert torch.equal(low, shrunk)  # turned alike
    ways = set()
    for patch in (low[:, :2] * 255).round().long():
        rows, columns = patch.sort(dim=-1).values, patch
        assert rows.max() - rows.min() <= 31
        steps = (columns[:, 0, 1] - columns[:, 0, 0], columns[:, 1, 0] - columns[:, 0, 0])
        ways.add(tuple(int(v) for step in steps for v in step))
        first = patch.flatten(1).min(1).values
        assert (first % 8 == 0).all()
        assert len(patch.flatten(1).unique(dim=1)[0]) == 256  # each pixel once
    assert len(ways) == 8


def test_a_seed_decides_a_batch(sampler):
    first, second = (sampler().batch(8, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[0], sampler().batch(8, np.random.default_rng(4))[0])


def test_detailed_patches_are_preferred_within_their_pool(sampler):
    detail = np.zeros((1, 4, 4), np.float32)
    detail[0, :, :2] = 1  # patches at columns 0, 8, 16 have detail 1, 1/2, 0
    low, _ = sampler(detail, choices=4).batch(400, np.random.default_rng(0))
    left = (low[:, 1].flatten(1).min(1).values * 255).round()
    assert 0.72 < (left == 0).float().mean() < 0.88  # 1 - (2/3)^4
    assert (left == 16).float().mean() < 0.05  # (1/3)^4
    assert 0.18 < (low[:, 2, 0, 0] > 0).float().mean() < 0.32  # whichever pool is harder


def test_a_share_of_the_patches_has_no_colour(sampler):
    coloured, _ = sampler().batch(400, np.random.default_rng(0))
    low, high = sampler(gray_share=0.25).batch(400, np.random.default_rng(0))
    gray = (low == low[:, :1]).all((1, 2, 3))
    assert 0.18 < gray.float().mean() < 0.32
    assert torch.equal(low[~gray], coloured[~gray])
    luma = coloured[gray, 0] * 0.299 + coloured[gray, 1] * 0.587 + coloured[gray, 2] * 0.114
    assert torch.allclose(low[gray, 0], luma, atol=1e-6)
    assert torch.equal(high[:, :, ::2, ::2], low)


def test_photographs_are_made_smaller_by_as_much_as_is_said(scripts, tmp_path):
    from PIL import Image

    (tmp_path / "photos").mkdir()
    Image.effect_noise((200, 160), 60).convert("RGB").save(tmp_path / "photos" / "a.png")
    recipe = scripts("training.recipe").Recipe(
        network="span", scale=2, channels=8, photographs="photos", rendered=0, rendered_share=0,
        validation="", patch=16, batch=1, choices=1, steps=1, warmup=0, rate=1, final_rate=1,
        clip=1, ema=0, seed=0, tile=16, reduced_share=0.6, reductions=(0.5, 0.25),
    )  # fmt: skip
    pools = scripts("training.stills").plan_pools(recipe, tmp_path)
    shares = {name: round(share, 6) for name, (_, share) in pools.items()}
    assert shares == {"photographs": 0.4, "reduced": 0.3, "reduced-0.25": 0.3}
    pictures = scripts("pictures")
    small = pictures.reduce_to(pictures.load(tmp_path / "photos" / "a.png"), 40, 50)
    assert torch.equal(pools["reduced-0.25"][0].make(0)[1][0], small[:, :32, :32])


def test_tiles_cover_a_picture_and_are_cut_from_its_whole_reduction(scripts, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for name, size in (("a", (100, 68)), ("b", (20, 20))):  # (width, height); one is too small
        pixels = rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    recipe = scripts("training.recipe").Recipe(
        network="span", scale=2, channels=8, photographs="photos", rendered=0, rendered_share=0,
        validation="", patch=16, batch=1, choices=1, steps=1, warmup=0, rate=1, final_rate=1,
        clip=1, ema=0, seed=0, tile=16,
    )  # fmt: skip
    plan, share = scripts("training.stills").plan_pools(recipe, tmp_path)["photographs"]
    assert (plan.count, share) == (4 * 3, 1)
    pictures = scripts("pictures")
    low = pictures.reduce_bicubic(pictures.load(tmp_path / "photos" / "a.png"), 2)
    seen = torch.zeros(34, 50)
    for index in range(plan.count):
        tile = plan.make(index)[0][0]
        places = low.unfold(1, 16, 1).unfold(2, 16, 1)  # 3, tops, lefts, 16, 16
        hits = (places == tile[:, None, None]).all(-1).all(-1).all(0).nonzero()
        assert len(hits) == 1
        top, left = (int(v) for v in hits[0])
        seen[top : top + 16, left : left + 16] = 1
    assert seen.all()
