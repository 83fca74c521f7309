"""Choose and compile what runs a model on a device, once, and say what was tried.

    python scripts/warm.py [--device cuda] [--model span] [--json OUT]

What runs SPAN fastest on a GPU is measured when it is first wanted there, which takes minutes, and
remembered. Whoever measures something else afterwards, in a limited time, does not pay for it.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path

import torch

from vsr.device import choose_device, choose_dtype
from vsr.runtimes import make_runtime
from vsr.weights import load_network


@torch.inference_mode()
def main() -> int:
    """Choose, compile and run once."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="span")
    parser.add_argument("--json", type=Path, help="write what was chosen there too")
    options = parser.parse_args()
    logging.basicConfig(format="%(name)s: %(message)s")
    logging.getLogger("vsr").setLevel(logging.DEBUG)  # the time of each configuration
    device, started = choose_device(options.device), time.perf_counter()
    runtime = make_runtime(load_network(options.model), device, choose_dtype(device, "auto"))
    runtime(torch.rand(1, 3, 72, 128, device=device))
    taken = time.perf_counter() - started
    print(f"{options.model} runs on {runtime.name}, after {taken:.1f} s")
    if options.json:
        found = {"model": options.model, "runtime": runtime.name, "seconds": taken}
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
