"""A small residual U-Net. Most of the work is done at 3 mm: full resolution has one convolution in and one out."""
import torch
from torch import Tensor, nn

CHANNELS = (8, 24, 48, 80)


class Unit(nn.Module):
    """Convolution 3 x 3 x 3, normalisation, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm3d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class Residual(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = Unit(channels, channels)
        self.conv = nn.Conv3d(channels, channels, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm3d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.conv(self.first(x))))


class Up(nn.Module):
    """Twice the resolution, fewer channels, added to what the way down had there."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.up = nn.ConvTranspose3d(channels_in, channels_out, 2, 2)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return torch.relu(self.up(x) + skip)


class NoduleNet(nn.Module):
    """[N, 1, a, b, c] intensities 0..1 at 1.5 mm, sides of multiples of 8 -> [N, 1, a, b, c] logits."""

    def __init__(self):
        super().__init__()
        c0, c1, c2, c3 = CHANNELS
        self.enter = Unit(1, c0)
        self.down1 = Unit(c0, c1, 2)
        self.body1 = Residual(c1)
        self.down2 = Unit(c1, c2, 2)
        self.body2 = Residual(c2)
        self.down3 = Unit(c2, c3, 2)
        self.body3 = nn.Sequential(Residual(c3), Residual(c3))
        self.up2 = Up(c3, c2)
        self.join2 = Residual(c2)
        self.up1 = Up(c2, c1)
        self.join1 = Residual(c1)
        self.up0 = Up(c1, c0)
        self.join0 = Unit(c0, c0)
        self.leave = nn.Conv3d(c0, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x0 = self.enter(x)
        x1 = self.body1(self.down1(x0))
        x2 = self.body2(self.down2(x1))
        x3 = self.body3(self.down3(x2))
        x2 = self.join2(self.up2(x3, x2))
        x1 = self.join1(self.up1(x2, x1))
        return self.leave(self.join0(self.up0(x1, x0)))


class Scorer(nn.Module):
    """What is shipped: the network with its normalisations folded into the convolutions, and a score 0..1."""

    def __init__(self, network: NoduleNet):
        super().__init__()
        self.network = fold(network.eval()).to(memory_format=torch.channels_last_3d)

    def forward(self, volume: Tensor) -> Tensor:
        return torch.sigmoid(self.network(volume.contiguous(memory_format=torch.channels_last_3d)))


def fold(module: nn.Module) -> nn.Module:
    """Replaces each pair conv, norm of the module's units by one convolution, in place."""
    for part in module.modules():
        if isinstance(part, (Unit, Residual)):
            part.conv = torch.nn.utils.fusion.fuse_conv_bn_eval(part.conv, part.norm)
            part.norm = nn.Identity()
    return module
