"""The suite for a lent GPU: steps are independent, limited in time, and recorded as they end."""

import json


def test_steps_are_limited_and_recorded(scripts, monkeypatch, capsys, tmp_path):
    suite = scripts("gpu_suite")
    good = "import json, sys; json.dump({'fps': 3}, open(sys.argv[1], 'w')); print('well')"
    steps = (
        suite.Step("slow", ("-c", "import time; time.sleep(60)"), 2),
        suite.Step("bad", ("-c", "raise SystemExit(3)"), 30),
        suite.Step("good", ("-c", good, "{out}/good.json"), 30),
    )
    monkeypatch.setattr(suite, "STEPS", steps)
    monkeypatch.setattr("sys.argv", ["gpu_suite.py", "--out", str(tmp_path / "out")])
    assert suite.main() == 1
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(r["step"], r["exit"]) for r in results["steps"]] == [
        ("slow", None), ("bad", 3), ("good", 0)
    ]  # fmt: skip
    assert results["steps"][2]["figures"] == {"fps": 3}
    assert (tmp_path / "out" / "good.txt").read_text() == "well\n"
    assert results["device"]["torch"]


def test_a_script_of_each_step_exists(scripts):
    suite = scripts("gpu_suite")
    for step in suite.STEPS:
        assert step.arguments[0] == "-m" or (suite.SCRIPTS / step.arguments[0]).is_file()
