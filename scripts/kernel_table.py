"""What the compiler says of every kernel, for GPUs that need not be here.

    python scripts/kernel_table.py [--channels 48] [--scale 2]

Compiles for compute capability 8.0, 8.9, 9.0 and 12.0 and prints a Markdown table: registers and
spilled bytes of a thread, shared memory of a program, instructions of the matrix units, loads of 16
bytes, and the bytes that a kernel reads and writes for a pixel of its input.
"""

import argparse
import sys

from vsr.kernels.ahead import SHARED_MEMORY, Usage, builds, compile_ahead

HEAD = (
    "| GPU | kernel | registers | spilled | shared, KiB | matrices | wide loads | bytes a pixel |"
)


def matrices(usage: Usage) -> str:
    """The instructions that multiply."""
    if usage.wgmma:
        return "wgmma"
    return "mma" if usage.mma else "none"


def main() -> int:
    """Compile and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--channels", type=int, default=48)
    parser.add_argument("--scale", type=int, default=2)
    options = parser.parse_args()
    print(HEAD, "|---" * 8 + "|", sep="\n")
    for capability in SHARED_MEMORY:
        for build in builds(capability, options.channels, options.scale):
            usage = compile_ahead(build, capability)
            print(
                f"| sm_{capability} | {build.name} | {usage.registers} | {usage.spilled} "
                f"| {usage.shared / 1024:.1f} | {matrices(usage)} | {usage.wide_loads} "
                f"| {build.traffic} |", flush=True,
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
