"""Four standard networks of 3D medical imaging as plain torch.nn modules, with seeded random weights: for measuring
time and memory, not for finding anything.

unet_spleen     3D U-Net with residual units, 16 to 256 channels, batch norm, PReLU: Kerfoot et al., "Left-ventricle
                quantification using residual U-Net" (STACOM 2018), in the configuration of the MONAI bundle
                spleen_ct_segmentation (2 residual units, 2 classes).
segresnet_105   Myronenko, "3D MRI brain tumor segmentation using autoencoder regularization" (BrainLes 2018), without
                the autoencoder, as in the bundle wholeBody_ct_segmentation: 32 initial filters, 105 classes.
nnunet          Plain convolutional U-Net, instance norm, leaky ReLU: Isensee et al., "nnU-Net" (Nature Methods 2021);
                32 to 320 channels in six stages as in MLPerf's 3D-UNet (KiTS19).
retinanet       Lin et al., "Focal loss for dense object detection" (ICCV 2017), in 3D on a ResNet-50 feature pyramid, as
                in the bundle lung_nodule_ct_detection: levels at strides 4x4x2, 8x8x4 and 16x16x8, three anchors.

Every network takes [N, 1, x, y, z] and answers one tensor [N, C, x, y, z]. RetinaNet's maps have other sizes: they are
flattened, one after the other, into channels of the window's size, so that nothing that it computes can be left out.
"""
from typing import List

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvUnit(nn.Module):
    """Convolution, batch norm, PReLU."""

    def __init__(self, inside: int, outside: int, stride: int = 1, transposed: bool = False):
        super().__init__()
        if transposed:
            self.conv = nn.ConvTranspose3d(inside, outside, 3, stride, padding=1, output_padding=stride - 1)
        else:
            self.conv = nn.Conv3d(inside, outside, 3, stride, padding=1)
        self.norm = nn.BatchNorm3d(outside)
        self.activation = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class ResidualUnit(nn.Module):
    """`units` convolutions beside a shortcut; the first one has the stride. `bare`: the last is a convolution alone."""

    def __init__(self, inside: int, outside: int, stride: int = 1, units: int = 2, bare: bool = False):
        super().__init__()
        layers: List[nn.Module] = []
        for unit in range(units):
            first = inside if unit == 0 else outside
            step = stride if unit == 0 else 1
            if bare and unit == units - 1:
                layers.append(nn.Conv3d(first, outside, 3, step, padding=1))
            else:
                layers.append(ConvUnit(first, outside, step))
        self.layers = nn.Sequential(*layers)
        if stride != 1:
            self.shortcut: nn.Module = nn.Conv3d(inside, outside, 3, stride, padding=1)
        elif inside != outside:
            self.shortcut = nn.Conv3d(inside, outside, 1)
        else:
            self.shortcut = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + self.shortcut(x)


class ResidualUNetLevel(nn.Module):
    def __init__(self, inside: int, outside: int, channels: List[int], top: bool):
        super().__init__()
        self.down = ResidualUnit(inside, channels[0], stride=2)
        if len(channels) > 2:
            self.below: nn.Module = ResidualUNetLevel(channels[0], channels[0], channels[1:], False)
            joined = 2 * channels[0]
        else:
            self.below = ResidualUnit(channels[0], channels[1])
            joined = channels[0] + channels[1]
        self.up = ConvUnit(joined, outside, 2, transposed=True)
        self.refine = ResidualUnit(outside, outside, units=1, bare=top)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return self.refine(self.up(torch.cat([x, self.below(x)], 1)))


def unet_spleen() -> nn.Module:
    return ResidualUNetLevel(1, 2, [16, 32, 64, 128, 256], True)


class GroupNormBlock(nn.Module):
    """SegResNet's block: twice group norm, ReLU, convolution, beside the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))


class SegResNet(nn.Module):
    def __init__(self, filters: int, classes: int):
        super().__init__()
        self.first = nn.Conv3d(1, filters, 3, padding=1, bias=False)
        down: List[nn.Module] = []
        for level, blocks in enumerate([1, 2, 2, 4]):
            channels = filters << level
            layers: List[nn.Module] = []
            if level > 0:
                layers.append(nn.Conv3d(channels // 2, channels, 3, 2, padding=1, bias=False))
            layers += [GroupNormBlock(channels) for _ in range(blocks)]
            down.append(nn.Sequential(*layers))
        self.down = nn.ModuleList(down)
        self.narrow = nn.ModuleList([nn.Conv3d(filters << level, filters << level >> 1, 1, bias=False)
                                     for level in (3, 2, 1)])
        self.refine = nn.ModuleList([GroupNormBlock(filters << level >> 1) for level in (3, 2, 1)])
        self.last = nn.Sequential(nn.GroupNorm(8, filters), nn.ReLU(), nn.Conv3d(filters, classes, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        skips: List[Tensor] = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        skip = len(skips) - 1
        for narrow, refine in zip(self.narrow, self.refine):
            skip -= 1
            x = F.interpolate(narrow(x), scale_factor=[2.0, 2.0, 2.0], mode="trilinear", align_corners=False)
            x = refine(x + skips[skip])
        return self.last(x)


def segresnet_105() -> nn.Module:
    return SegResNet(32, 105)


def double_conv(inside: int, outside: int, stride: int) -> nn.Module:
    layers: List[nn.Module] = []
    for first, step in ((inside, stride), (outside, 1)):
        layers += [nn.Conv3d(first, outside, 3, step, padding=1), nn.InstanceNorm3d(outside, affine=True),
                   nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)


class PlainUNet(nn.Module):
    def __init__(self, channels: List[int], classes: int):
        super().__init__()
        inside = [1] + channels[:-1]
        self.down = nn.ModuleList([double_conv(inside[level], channels[level], 1 if level == 0 else 2)
                                   for level in range(len(channels))])
        levels = list(range(len(channels) - 2, -1, -1))
        self.up = nn.ModuleList([nn.ConvTranspose3d(channels[level + 1], channels[level], 2, 2) for level in levels])
        self.merge = nn.ModuleList([double_conv(2 * channels[level], channels[level], 1) for level in levels])
        self.last = nn.Conv3d(channels[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: List[Tensor] = []
        for level in self.down:
            x = level(x)
            skips.append(x)
        skip = len(skips) - 1
        for up, merge in zip(self.up, self.merge):
            skip -= 1
            x = merge(torch.cat([up(x), skips[skip]], 1))
        return self.last(x)


def nnunet() -> nn.Module:
    return PlainUNet([32, 64, 128, 256, 320, 320], 3)


class Bottleneck(nn.Module):
    def __init__(self, inside: int, planes: int, stride: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(inside, planes, 1, bias=False), nn.BatchNorm3d(planes), nn.ReLU(),
            nn.Conv3d(planes, planes, 3, stride, padding=1, bias=False), nn.BatchNorm3d(planes), nn.ReLU(),
            nn.Conv3d(planes, 4 * planes, 1, bias=False), nn.BatchNorm3d(4 * planes))
        if inside != 4 * planes or stride != 1:
            self.shortcut: nn.Module = nn.Sequential(nn.Conv3d(inside, 4 * planes, 1, stride, bias=False),
                                                     nn.BatchNorm3d(4 * planes))
        else:
            self.shortcut = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.shortcut(x))


def head(outputs: int) -> nn.Module:
    """Four times convolution, group norm, ReLU, then the answers of each place."""
    layers: List[nn.Module] = []
    for _ in range(4):
        layers += [nn.Conv3d(256, 256, 3, padding=1), nn.GroupNorm(8, 256), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv3d(256, outputs, 3, padding=1))


class RetinaNet(nn.Module):
    ANCHORS = 3

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(1, 64, 7, (2, 2, 1), padding=3, bias=False), nn.BatchNorm3d(64), nn.ReLU(),
                                  nn.MaxPool3d(3, 2, padding=1))
        self.layer1 = nn.Sequential(Bottleneck(64, 64, 1), Bottleneck(256, 64, 1), Bottleneck(256, 64, 1))
        self.layer2 = nn.Sequential(Bottleneck(256, 128, 2), *[Bottleneck(512, 128, 1) for _ in range(3)])
        self.inner1 = nn.Conv3d(256, 256, 1)
        self.inner2 = nn.Conv3d(512, 256, 1)
        self.outer1 = nn.Conv3d(256, 256, 3, padding=1)
        self.outer2 = nn.Conv3d(256, 256, 3, padding=1)
        self.classes = head(self.ANCHORS)
        self.boxes = head(6 * self.ANCHORS)

    def forward(self, x: Tensor) -> Tensor:
        level1 = self.layer1(self.stem(x))
        level2 = self.layer2(level1)
        inner2 = self.inner2(level2)
        inner1 = self.inner1(level1) + F.interpolate(inner2, size=level1.shape[2:], mode="nearest")
        level2 = self.outer2(inner2)
        levels = [self.outer1(inner1), level2, F.max_pool3d(level2, 1, 2)]
        maps: List[Tensor] = []
        for level in levels:
            maps.append(self.classes(level).flatten(1))
        for level in levels:
            maps.append(self.boxes(level).flatten(1))
        flat = torch.cat(maps, 1)
        voxels = x.shape[2] * x.shape[3] * x.shape[4]
        channels = (flat.shape[1] + voxels - 1) // voxels
        flat = F.pad(flat, [0, channels * voxels - flat.shape[1]])
        return flat.reshape(x.shape[0], channels, x.shape[2], x.shape[3], x.shape[4])


def retinanet() -> nn.Module:
    return RetinaNet()


class Standard:
    """One network with its usual window."""

    def __init__(self, make, window, classes, gflop, batches):
        self.make = make
        self.window = window  # x, y, z
        self.classes = classes  # output channels
        self.gflop = gflop  # per window, 2 x multiply-add; counted by hand from the published configuration
        self.batches = batches  # windows per pass that are worth measuring


NETWORKS = {
    "unet_spleen": Standard(unet_spleen, (96, 96, 96), 2, 10.2, (1, 2, 4, 8)),
    "segresnet_105": Standard(segresnet_105, (96, 96, 96), 105, 494.0, (1, 2, 4)),
    "nnunet": Standard(nnunet, (128, 128, 128), 3, 954.6, (1, 2, 4, 8)),
    "retinanet": Standard(retinanet, (512, 512, 192), 1, 60782.0, (1,)),
}


def build(name: str, seed: int = 20260) -> nn.Module:
    """The network with weights from `seed`, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name].make().eval()


def count_gflop(name: str, window=None) -> float:
    """GFLOP of one window, counted by PyTorch on tensors without data; ours are convolutions only."""
    from torch.utils.flop_counter import FlopCounterMode
    with torch.device("meta"):
        network = NETWORKS[name].make().eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            network(torch.empty(1, 1, *(window or NETWORKS[name].window)))
    return counter.get_total_flops() / 1e9
