"""Networks without weights: the identity, to test a pipeline, and Lanczos, to compare with."""

from torch import Tensor, nn

from vsr.resample import resize

__all__ = ["Identity", "Lanczos"]


class Identity(nn.Module):
    """Gives back what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) unchanged."""
        return x


class Lanczos(nn.Module):
    """Three-lobed Lanczos enlargement."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, scale * H, scale * W), float32."""
        return resize(x, self.scale * x.shape[-2], self.scale * x.shape[-1], "lanczos")
