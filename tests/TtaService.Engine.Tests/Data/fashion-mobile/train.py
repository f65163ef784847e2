#!/usr/bin/env python3
"""Trains a second network on Fashion-MNIST, built otherwise than the demo's: inverted residuals with depthwise convolutions and ReLU6, narrow linear ends.

What is tuned on the demo's network is checked on this one. Needs what the demo's train.py needs, and takes its data, augmentation and measure from there.
Usage: train.py [--data FOLDER] [--epochs N] [--out model.onnx]
"""
import argparse
import importlib.util
import pathlib

import onnx
import torch
from torch import nn
from torch.nn import functional

HERE = pathlib.Path(__file__).resolve().parent
DEMO = HERE.parents[3] / "deploy/models/fashion-mnist/train.py"
spec = importlib.util.spec_from_file_location("demo", DEMO)
demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(demo)


def unit(inputs, outputs, kernel, stride, groups=1, bounded=True):
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return layers + [nn.ReLU6()] if bounded else layers


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion=4):
        super().__init__()
        wide = expansion * inputs
        self.keeps = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(*unit(inputs, wide, 1, 1), *unit(wide, wide, 3, stride, groups=wide), *unit(wide, outputs, 1, 1, bounded=False))

    def forward(self, x):
        return self.layers(x) + x if self.keeps else self.layers(x)


class SmallMobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *unit(1, 12, 3, 2), InvertedResidual(12, 20, 1), InvertedResidual(20, 20, 1), InvertedResidual(20, 32, 2),
            InvertedResidual(32, 32, 1), InvertedResidual(32, 40, 1), *unit(40, 96, 1, 1))
        self.fc = nn.Linear(96, 10)

    def forward(self, x):
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(self.features(x), 1), 1))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "model.onnx")
    arguments = parser.parse_args()

    torch.manual_seed(1)
    train_x, train_y = demo.load(arguments.data, "train")
    test_x, test_y = demo.load(arguments.data, "t10k")
    model = SmallMobileNet().to(memory_format=torch.channels_last)
    batch = 128
    steps = arguments.epochs * (len(train_x) // batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.3, total_steps=steps, pct_start=0.2)
    for epoch in range(arguments.epochs):
        model.train()
        order = torch.randperm(len(train_x))
        for i in range(len(train_x) // batch):
            rows = order[i * batch:(i + 1) * batch]
            loss = functional.cross_entropy(model(demo.augment(train_x[rows]).contiguous(memory_format=torch.channels_last)), train_y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: test accuracy {demo.accuracy(model, test_x, test_y):.4f}", flush=True)

    model = model.to(memory_format=torch.contiguous_format).eval()
    torch.onnx.export(
        model, torch.zeros(1, 1, 28, 28), str(arguments.out), opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE, input_names=["image"], output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}})
    nodes = [node.op_type for node in onnx.load(str(arguments.out)).graph.node]
    sites = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert nodes.count("BatchNormalization") == sites, "the export lost BatchNormalization nodes"
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {sites} BatchNormalization nodes")


if __name__ == "__main__":
    main()
