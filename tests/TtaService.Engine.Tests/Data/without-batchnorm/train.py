#!/usr/bin/env python3
"""Trains small networks without BatchNormalization on Fashion-MNIST: torchvision's ConvNeXt and ViT at a small size, a residual network with GroupNorm, and convolutions and
fully connected layers that nothing normalizes, as in AlexNet and VGG.

What their virtual sites are worth is measured on them. Exported the default way. Needs what the demo's train.py needs and torchvision, and takes data, augmentation and
measure from there.
Usage: train.py [NETWORK ...] [--data FOLDER] [--epochs N] [--out FOLDER]
"""
import argparse
import importlib.util
import pathlib

import torch
from torch import nn
from torch.nn import functional
from torchvision.models import VisionTransformer
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

HERE = pathlib.Path(__file__).resolve().parent
DEMO = HERE.parents[3] / "deploy/models/fashion-mnist/train.py"
spec = importlib.util.spec_from_file_location("demo", DEMO)
demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(demo)


def convnext():
    model = ConvNeXt([CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 3)], layer_scale=0.1, num_classes=10)
    model.features[0][0] = nn.Conv2d(1, 32, 2, 2)
    return model


def vit():
    model = VisionTransformer(image_size=28, patch_size=4, num_layers=4, num_heads=4, hidden_dim=56, mlp_dim=112, num_classes=10)
    model.conv_proj = nn.Conv2d(1, 56, 4, 4)
    # Zeros, as torchvision begins, teach nothing.
    nn.init.trunc_normal_(model.heads.head.weight, std=0.02)
    return model


class GroupNormBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(8, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(8, outputs)
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.GroupNorm(8, outputs))

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def groupnorm():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.GroupNorm(8, 16), nn.ReLU(), GroupNormBlock(16, 16, 1), GroupNormBlock(16, 32, 2), GroupNormBlock(32, 32, 1),
        GroupNormBlock(32, 64, 2), GroupNormBlock(64, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(64, 10))


def plain():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 48, 3, 1, 1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(1), nn.Linear(432, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


NETWORKS = {"convnext": (convnext, 3), "vit": (vit, 6), "groupnorm": (groupnorm, 3), "plain": (plain, 3)}


def train(model, epochs, data):
    (train_x, train_y), (test_x, test_y) = demo.load(data, "train"), demo.load(data, "t10k")
    batch = 128
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * (len(train_x) // batch), pct_start=0.2)
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(train_x))
        for i in range(len(train_x) // batch):
            rows = order[i * batch:(i + 1) * batch]
            loss = functional.cross_entropy(model(demo.augment(train_x[rows])), train_y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: test accuracy {demo.accuracy(model, test_x, test_y):.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}; all")
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    arguments = parser.parse_args()
    for name in arguments.networks or NETWORKS:
        torch.manual_seed(1)
        make, epochs = NETWORKS[name]
        model = make()
        print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters", flush=True)
        train(model, arguments.epochs or epochs, arguments.data)
        torch.onnx.export(
            model.eval(), torch.zeros(1, 1, 28, 28), str(arguments.out / f"{name}.onnx"), opset_version=17, input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}})


if __name__ == "__main__":
    main()
