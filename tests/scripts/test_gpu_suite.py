"""The suite for a lent GPU: steps are independent, limited in time, and recorded as they end."""

import json
import os
import subprocess
import sys
import tarfile
import time
from itertools import chain

import pytest

FIGURES = {
    "kernels": {"rows": [
        {"way": "Triton, fused epilogues", "size": [1280, 720], "fps": 700.0, "of_bound": 0.9},
        {"way": "Triton, fused epilogues", "size": [1920, 1080], "fps": 191.0, "of_bound": 0.66},
        {"way": "Triton, fused blocks", "size": [1920, 1080], "fps": 255.5, "of_bound": 0.6},
    ]},
    "stream": [{"size": "1920x1080", "network": 200.0, "command, --hwaccel none": 150.0,
                "command, --hwaccel cuda": 180.0}],
    "paper": [
        {"variant": "sst", "milliseconds": 200.0, "paper_ms": 428.9, "mb": 2000, "paper_mb": 2675},
        {"variant": "sst+", "milliseconds": 250.0, "paper_ms": 455.8, "mb": 3000, "paper_mb": 2825},
        {"variant": "sst-xl+", "milliseconds": 9.0, "paper_ms": "-", "mb": 9, "paper_mb": "-"},
        {"variant": "esc", "milliseconds": 900.0, "paper_ms": 120.9, "mb": 900, "paper_mb": 831},
    ],
    "precision": [{"model": "span", "apart": -0.5}, {"model": "sst", "apart": 0.0},
                  {"model": "sst", "apart": -0.004}],
}  # fmt: skip


@pytest.fixture
def suite(scripts, monkeypatch, tmp_path):
    found = scripts("gpu_suite")
    monkeypatch.setattr("sys.argv", ["gpu_suite.py", "--out", str(tmp_path / "out")])
    return found


def written(tmp_path):
    return json.loads((tmp_path / "out" / "results.json").read_text())


def test_steps_are_limited_and_recorded(suite, monkeypatch, capsys, tmp_path):
    good = "import json, sys; json.dump({'fps': 3}, open(sys.argv[1], 'w')); print('well')"
    steps = (
        suite.Step("slow", ("-c", "import time; time.sleep(60)"), 2),
        suite.Step("bad", ("-c", "raise SystemExit(3)"), 30),
        suite.Step("good", ("-c", good, "{work}/good.json"), 30),
        suite.Step(
            "torn", ("-c", "import sys; open(sys.argv[1], 'w').write('{')", "{work}/t.json"), 30
        ),
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(suite, "STEPS", steps)
    assert suite.main() == 1
    results = written(tmp_path)
    assert [(r["step"], r["exit"]) for r in results["steps"]] == [
        ("slow", None), ("bad", 3), ("good", 0), ("torn", 0)
    ]  # fmt: skip
    assert results["steps"][2]["figures"] == {"fps": 3}
    assert results["steps"][2]["said"] == ["well"]
    with tarfile.open(tmp_path / "out" / "logs.tar.gz") as logs:
        assert {"logs/good.txt", "logs/good.json", "logs/slow.txt"} <= set(logs.getnames())
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert results["device"]["torch"]
    assert [row["found"] for row in results["targets"]] == [None] * len(suite.TARGETS)
    assert capsys.readouterr().out.count("not measured") == len(suite.TARGETS)


@pytest.mark.parametrize("elsewhere", [None, "/elsewhere"])
def test_steps_find_the_checkout_first(suite, monkeypatch, tmp_path, elsewhere):
    """A script has its own folder alone on its path, and on a lent machine nothing is installed."""
    script = tmp_path / "look.py"
    script.write_text("import sys, vsr; print(*sys.path, vsr.__file__, sep='\\n')")
    monkeypatch.setattr(suite, "STEPS", (suite.Step("look", (), 60, (str(script),)),))
    monkeypatch.setattr("sys.argv", ["gpu_suite.py", "--out", str(tmp_path / "out"), "--rehearse"])
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if elsewhere:
        monkeypatch.setenv("PYTHONPATH", elsewhere)
    assert suite.main() == 0
    _, *path, found = written(tmp_path)["steps"][0]["said"]
    assert path[: 1 + bool(elsewhere)] == [str(suite.ROOT), *filter(None, [elsewhere])]
    assert found == str(suite.ROOT / "vsr" / "__init__.py")


def test_a_step_may_save_before_it_is_stopped(suite, monkeypatch, tmp_path):
    saving = (
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path(sys.argv[1]).touch(), exit()))\n"
        "time.sleep(60)"
    )
    monkeypatch.setattr(suite, "STEPS", (suite.Step("saves", ("-c", saving, "{out}/saved"), 4),))
    assert suite.main() == 1
    assert (tmp_path / "out" / "saved").exists()
    assert written(tmp_path)["steps"][0]["exit"] is None


def test_trainings_come_back_in_pieces_and_go_on_from_there(suite, monkeypatch, tmp_path):
    """Two checkpoints, each larger than a file that is brought back may be."""
    grow = (
        "import os, pathlib, sys\n"
        "folder = pathlib.Path(sys.argv[1]); folder.mkdir(parents=True, exist_ok=True)\n"
        "for name in ('log.csv', 'curve.png', 'model.safetensors'): (folder / name).touch()\n"
        "with (folder / 'checkpoint.pt').open('ab') as file: file.write(os.urandom(15_000))\n"
        "print((folder / 'checkpoint.pt').stat().st_size)"
    )
    monkeypatch.setattr(suite, "STEPS", ())
    monkeypatch.setattr(suite, "PIECE", 10_000)
    monkeypatch.setattr(
        suite, "training",
        lambda recipe, _: suite.Step(recipe.stem, ("-c", grow, f"{{out}}/runs/{recipe.stem}"), 30),
    )  # fmt: skip
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["suite", "--out", str(out), "--train", "a.toml", "b.toml"])
    for said, pieces in (("15000", 2), ("30000", 4)):
        assert suite.main() == 0
        assert [row["said"] for row in written(tmp_path)["steps"]] == [[said]] * 2
        names = {path.name: path.stat().st_size for path in out.rglob("*") if path.is_file()}
        runs = {f"run-{name}.tar.gz.{i:02}" for name in "ab" for i in range(pieces)}
        assert set(names) == {"results.json", "logs.tar.gz"} | runs
        assert max(names[name] for name in runs) <= 10_000


def test_a_new_machine_is_warmed_before_anything_is_timed(suite):
    assert suite.STEPS[0].name == "warm"
    names = {step.name for step in suite.STEPS}
    told = [line.split() for line in suite.__doc__.splitlines() if line.startswith("    --only")]
    calls = [[word for word in words if word in names] for words in told]
    assert sorted(chain(*calls)) == sorted(names)  # each step in one of the calls
    assert calls[0][0] == "warm"


def test_what_a_step_has_started_ends_with_it(suite, monkeypatch, tmp_path):
    child = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]])"
    )
    grandchild = (
        "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(99)"
    )
    step = suite.Step("parent", ("-c", child, grandchild, "{out}/pid"), 3)
    monkeypatch.setattr(suite, "STEPS", (step,))
    assert suite.main() == 1
    pid = int((tmp_path / "out" / "pid").read_text())
    for _ in range(50):  # until it is reaped
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("it runs on")


def test_results_are_written_before_the_first_step(suite, monkeypatch, tmp_path):
    look = "import shutil, sys; shutil.copy(sys.argv[1] + '/results.json', sys.argv[1] + '/seen')"
    monkeypatch.setattr(suite, "STEPS", (suite.Step("look", ("-c", look, "{out}"), 30),))
    assert suite.main() == 0
    seen = json.loads((tmp_path / "out" / "seen").read_text())
    assert seen["steps"] == []
    assert seen["device"] == written(tmp_path)["device"]


def test_targets_are_found_in_the_figures(suite):
    found = {row["target"]: row for row in (target.check(FIGURES) for target in suite.TARGETS)}
    values = [(row["found"], row["reached"]) for row in found.values()]
    assert values == [
        (191.0, True), (255.5, False), (0.6, False), (pytest.approx(0.9), True), (None, None),
        (pytest.approx(455.8 / 250), False), (pytest.approx(3000 / 2825), False), (0.004, True),
    ]  # fmt: skip


def test_a_script_and_tests_of_each_step_exist(suite):
    for step in suite.STEPS:
        assert step.arguments[0] == "-m" or (suite.SCRIPTS / step.arguments[0]).is_file()
    assert "tests/test_engine.py" in suite.gpu_tests()
    assert "tests/kernels/test_block.py" in suite.gpu_tests()
    assert "tests/test_bench.py" not in suite.gpu_tests()


def test_scripts_want_nothing_that_a_bare_machine_lacks(suite):
    """Not Pillow, OpenVINO, ONNX or the network: what comes with torch and vsr must do."""
    code = (
        "import runpy, sys, socket\n"
        "socket.socket.connect = None\n"
        "for name in ('PIL', 'openvino', 'onnx', 'onnxruntime', 'hypothesis', 'scipy'):\n"
        "    sys.modules[name] = None\n"
        "sys.path.insert(0, 'scripts')\n"
        "for name in sys.argv[1:]:\n"
        "    runpy.run_path(name, run_name='looked_at')\n"
    )
    paths = {a for step in suite.STEPS for a in step.arguments if a.startswith(str(suite.SCRIPTS))}
    assert len(paths) > 5
    subprocess.run([sys.executable, "-c", code, *sorted(paths)], cwd=suite.ROOT, check=True)


@pytest.mark.slow
def test_a_rehearsal_runs_the_scripts(suite, monkeypatch, tmp_path, capsys):
    """Two of them; the others are run by tests of their own, or take long on a CPU."""
    names = ["stream", "precision"]
    monkeypatch.setattr(
        "sys.argv", ["gpu_suite.py", "--out", str(tmp_path / "out"), "--rehearse", "--only", *names]
    )
    assert suite.main() == 0, capsys.readouterr().out
    steps = {row["step"]: row for row in written(tmp_path)["steps"]}
    assert list(steps) == names
    assert steps["stream"]["figures"][0]["network"] > 0
    assert {row["way"] for row in steps["precision"]["figures"]} >= {"torch:fp32", "torch:bf16"}
