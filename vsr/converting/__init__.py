"""Models in and out: other programs' checkpoints become ours, ours become ONNX or TorchScript.

What is written is compared with what it was made from.
"""
