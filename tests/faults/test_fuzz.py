"""Damaged inputs of every kind, some of each; ``scripts/fuzz.py`` runs as many as wanted."""

import random

import pytest

from tests.warm import PYTHON

CASES = {
    "containers": 30,
    "y4m": 30,
    "pictures": 20,
    "checkpoints": 30,
    "vpy": 20,
    "manifests": 20,
}
QUICK = 60


@pytest.fixture(scope="session")
def seeds(scripts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz") / "seeds"
    scripts("fuzz_seeds").make_seeds(folder, None)
    return folder


KINDS = ["containers", "y4m", "pictures", "checkpoints", "index", "vpy", "manifests", "patchers"]


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_inputs(scripts, seeds, tmp_path, monkeypatch, kind):
    """No hang, no traceback, no growth, nothing left: the worker looks for all of them."""
    fuzz = scripts("fuzz")
    monkeypatch.setattr(fuzz, "_PYTHON", PYTHON)
    cases = range(CASES.get(kind, QUICK))
    found = fuzz.fuzz(kind, 1234, cases, tmp_path, seeds)
    assert sum(found.outcomes.values()) == len(cases)
    assert found.survived, found.wrong
    assert found.outcomes["refused"]


@pytest.mark.parametrize(
    ("resident", "allocated", "survived"), [(1, 1, True), (20, 1, False), (1, 20, False)]
)
def test_growth_is_noticed(scripts, resident, allocated, survived):
    """KB a case, of either kind; a jump at the start is warming up."""
    fuzz = scripts("fuzz")
    memory = [(0, 0)] * 20 + [(9000 + n * resident, 9000 + n * allocated) for n in range(400)]
    found = fuzz.Found("index", growth=fuzz._growth(memory))
    assert found.growth == [(resident, allocated)]
    assert found.survived is survived


def test_damage_is_the_same_for_the_same_seed(scripts):
    mutate, data = scripts("fuzz_mutate"), bytes(range(256)) * 8
    once, again = (mutate.damage(random.Random(5), data, [data]) for _ in range(2))
    assert once == again != data
    text = "one two three four"
    assert mutate.damage_text(random.Random(5), text) == mutate.damage_text(random.Random(5), text)


@pytest.mark.parametrize(
    ("body", "outcome", "words"),
    [
        ("raise RuntimeError('lost')", "wrong", "lost"),
        ("open('left', 'w').close()", "wrong", "left"),
        ("os.kill(os.getpid(), 6)", "crashed", "-6"),
        ("time.sleep(30)", "hung", "no answer"),
        ("threading.Thread(target=time.sleep, args=(5,), name='vsr-x').start()", "wrong", "vsr-x"),
    ],
)
def test_what_must_not_happen_is_noticed(
    scripts, seeds, tmp_path, monkeypatch, body, outcome, words
):
    """Workers are told to misbehave."""
    fuzz = scripts("fuzz")
    worker = tmp_path / "worker.py"
    folder = fuzz.Path(fuzz.__file__).parent
    worker.write_text(
        f"import os, sys, threading, time\nsys.path.insert(0, {str(folder)!r})\n"
        f"import fuzz_kinds\n\ndef bad(rng, bench):\n    {body}\n    return 'done'\n\n"
        "fuzz_kinds.KINDS['index'] = bad\nfrom fuzz_worker import work\nfrom pathlib import Path\n"
        "kind, seed, start, stop, place, seeds = sys.argv[1:]\n"
        "work(kind, int(seed), range(int(start), int(stop)), Path(place), Path(seeds))\n"
    )
    monkeypatch.setattr(fuzz, "_WORKER", worker)
    if outcome == "wrong":  # the others get signals, which are to find the worker itself
        monkeypatch.setattr(fuzz, "_PYTHON", PYTHON)
    monkeypatch.setattr(fuzz, "_PATIENCE", 5.0 if outcome == "hung" else 60.0)
    found = fuzz.fuzz("index", 0, range(1), tmp_path, seeds)
    assert found.outcomes == {outcome: 1}
    assert words in found.wrong[0]
    assert not found.survived
