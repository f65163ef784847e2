#!/usr/bin/env python3
"""Exports models for the parity tests: small ones (committed under Data/onnx) and torchvision's (made on demand).

Usage: export_models.py small FOLDER | export_models.py torchvision FOLDER [NAME ...]
Weights are random, BatchNorm statistics are randomized, and BatchNormalization nodes are kept.
"""
import pathlib
import sys

import torch
import torchvision
from torch import nn
from torch.nn import functional

CLASSIFIERS = [
    "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "densenet121", "efficientnet_b0",
    "shufflenet_v2_x1_0", "regnet_y_400mf", "googlenet", "mnasnet1_0", "squeezenet1_0", "vgg11_bn", "inception_v3"]
SEGMENTERS = ["fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large"]


class Bottleneck(nn.Module):
    """A residual block with a projection, then one without; ReLU6 and an average pool."""
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 20, 3, 1, 1, bias=False), nn.BatchNorm2d(20)
        self.down, self.bn3 = nn.Conv2d(12, 20, 1, bias=False), nn.BatchNorm2d(20)
        self.conv4, self.bn4 = nn.Conv2d(20, 20, 3, 1, 1, groups=4), nn.BatchNorm2d(20)
        self.fc = nn.Linear(20, 5)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = functional.relu(self.bn2(self.conv2(x)) + self.bn3(self.down(x)))
        x = functional.relu6(self.bn4(self.conv4(x)) + x)
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.depth, self.bn2 = nn.Conv2d(16, 16, 5, 1, 2, groups=16, bias=False), nn.BatchNorm2d(16)
        self.reduce, self.expand = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.point, self.bn3 = nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16)

    def forward(self, x):
        y = functional.hardswish(self.bn1(self.conv1(x)))
        z = functional.silu(self.bn2(self.depth(y)))
        z = z * functional.hardsigmoid(self.expand(functional.relu(self.reduce(functional.adaptive_avg_pool2d(z, 1)))))
        return (self.bn3(self.point(z)) + y).mean([2, 3])


class Dense(nn.Module):
    """Pre-activation BatchNorm over concatenations, where nothing can be folded."""
    def __init__(self):
        super().__init__()
        self.conv0 = nn.Conv2d(3, 8, 3, 1, 1)
        self.bn1, self.conv1 = nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3, 1, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(14), nn.Conv2d(14, 6, 3, 1, 1, bias=False)
        self.bn3, self.fc, self.bn4 = nn.BatchNorm2d(20), nn.Linear(20, 7), nn.BatchNorm1d(7)

    def forward(self, x):
        x = self.conv0(x)
        # A concatenation of one, as torchvision's DenseNet begins: its BatchNorm must not overwrite x.
        x = torch.cat([x, self.conv1(functional.relu(self.bn1(torch.cat([x], 1))))], 1)
        x = torch.cat([x, self.conv2(functional.relu(self.bn2(x)))], 1)
        x = functional.avg_pool2d(functional.relu(self.bn3(x)), 2, ceil_mode=True)
        return self.bn4(self.fc(x.mean([2, 3])))


class Segmenter(nn.Module):
    """Dilated branches, image pooling, bilinear upsampling to the input's size, a transposed convolution."""
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.branch, self.bn2 = nn.Conv2d(8, 8, 3, 1, 2, dilation=2, bias=False), nn.BatchNorm2d(8)
        self.pool, self.bn3 = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.up, self.head = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        a = functional.relu(self.bn2(self.branch(y)))
        b = functional.relu(self.bn3(self.pool(functional.adaptive_avg_pool2d(y, 1))))
        b = functional.interpolate(b, size=y.shape[-2:], mode="bilinear", align_corners=False)
        z = self.head(functional.relu(self.up(torch.cat([a, b], 1))))
        return functional.interpolate(z, size=x.shape[-2:], mode="bilinear", align_corners=False)


class Detector(nn.Module):
    """A YOLO-like neck and head: split, nearest upsampling, pooling pyramid, reshaped raw outputs."""
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16)
        self.conv3, self.bn3 = nn.Conv2d(24, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.head = nn.Conv2d(24, 18, 1)

    def forward(self, x):
        a = functional.silu(self.bn1(self.conv1(x)))
        b = functional.silu(self.bn2(self.conv2(a)))
        left, right = b.chunk(2, 1)
        p = functional.max_pool2d(right, 5, 1, 2)
        c = functional.silu(self.bn3(self.conv3(torch.cat([left, right, p], 1))))
        up = functional.interpolate(c, scale_factor=2.0, mode="nearest")
        y = self.head(torch.cat([up, a], 1))
        n, _, h, w = y.shape
        y = y.view(n, 3, 6, h, w).permute(0, 1, 3, 4, 2).reshape(n, -1, 6)
        box, score = y.split((4, 2), 2)
        return torch.cat([box.exp() * 0.1, score.sigmoid()], 2)


SMALL = {"bottleneck": Bottleneck, "squeeze_excite": SqueezeExcite, "dense": Dense, "segmenter": Segmenter, "detector": Detector}


def randomize(model):
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


class First(nn.Module):
    """Segmentation models answer with a dictionary."""
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)["out"]


def export(model, size, path, opset=17, spatial=True):
    axes = {0: "batch", 2: "height", 3: "width"} if spatial else {0: "batch"}
    torch.onnx.export(
        model, torch.zeros(1, 3, size, size), str(path), opset_version=opset, training=torch.onnx.TrainingMode.PRESERVE,
        input_names=["image"], output_names=["output"],
        dynamic_axes={"image": axes, "output": {0: "batch"}})
    print(path)


def main():
    kind, folder, names = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "small":
        for opset in (11, 17):
            for name, make in SMALL.items():
                torch.manual_seed(0)
                export(randomize(make()), 48, folder / f"{name}_opset{opset}.onnx", opset)
        # The default export folds BatchNormalization away.
        torch.manual_seed(0)
        torch.onnx.export(randomize(Bottleneck()), torch.zeros(1, 3, 48, 48), str(folder / "folded.onnx"), opset_version=17,
                          dynamic_axes={"image": {0: "batch", 2: "height", 3: "width"}}, input_names=["image"], output_names=["output"])
        return
    for name in names or CLASSIFIERS + SEGMENTERS:
        torch.manual_seed(0)
        if name in SEGMENTERS:
            model = First(randomize(getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None)))
        else:
            options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
            model = randomize(getattr(torchvision.models, name)(weights=None, **options))
        # VGG pools to 7x7, which ONNX has no node for unless the input's size is fixed.
        export(model.eval(), 299 if name == "inception_v3" else 224, folder / f"{name}.onnx", spatial=not name.startswith("vgg"))


if __name__ == "__main__":
    main()
