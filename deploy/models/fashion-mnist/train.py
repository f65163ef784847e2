#!/usr/bin/env python3
"""Trains the demo model on Fashion-MNIST and exports it with its BatchNormalization nodes, as a user's own model would be.

Needs PyTorch, NumPy and onnx; the data are the four IDX files of Fashion-MNIST (Debian: dataset-fashion-mnist).
Usage: train.py [--data FOLDER] [--epochs N] [--out model.onnx]
"""
import argparse
import gzip
import pathlib

import numpy
import onnx
import torch
from torch import nn
from torch.nn import functional

MEAN, STD = 0.2860, 0.3530


def load(folder, name):
    images = gzip.open(folder / f"{name}-images-idx3-ubyte.gz").read()
    labels = gzip.open(folder / f"{name}-labels-idx1-ubyte.gz").read()
    x = numpy.frombuffer(images, numpy.uint8, offset=16).reshape(-1, 1, 28, 28)
    y = numpy.frombuffer(labels, numpy.uint8, offset=8).astype(numpy.int64)
    return (torch.from_numpy(x.copy()).float() / 255 - MEAN) / STD, torch.from_numpy(y)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class SmallResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = Block(16, 16, 1)
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


def augment(x):
    """Horizontal flips and shifts by up to two pixels, drawn per image."""
    flip = torch.rand(len(x)) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(3), x)
    padded = functional.pad(x, (2, 2, 2, 2), value=-MEAN / STD)
    rows = torch.randint(0, 5, (len(x), 1)) + torch.arange(28)
    columns = torch.randint(0, 5, (len(x), 1)) + torch.arange(28)
    return padded[torch.arange(len(x))[:, None, None], 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        return sum((model(x[i:i + 500]).argmax(1) == y[i:i + 500]).sum().item() for i in range(0, len(x), 500)) / len(x)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "model.onnx")
    arguments = parser.parse_args()

    torch.manual_seed(0)
    train_x, train_y = load(arguments.data, "train")
    test_x, test_y = load(arguments.data, "t10k")
    model = SmallResNet().to(memory_format=torch.channels_last)
    batch = 128
    steps = arguments.epochs * (len(train_x) // batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps, pct_start=0.2)
    for epoch in range(arguments.epochs):
        model.train()
        order = torch.randperm(len(train_x))
        total = 0.0
        for i in range(len(train_x) // batch):
            rows = order[i * batch:(i + 1) * batch]
            x = augment(train_x[rows]).contiguous(memory_format=torch.channels_last)
            loss = functional.cross_entropy(model(x), train_y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1}: loss {total / (len(train_x) // batch):.3f}, test accuracy {accuracy(model, test_x, test_y):.4f}", flush=True)

    model = model.to(memory_format=torch.contiguous_format).eval()
    # PRESERVE keeps the BatchNormalization nodes; the default export folds them into the convolutions.
    torch.onnx.export(
        model, torch.zeros(1, 1, 28, 28), str(arguments.out), opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE, input_names=["image"], output_names=["logits"],
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}})
    nodes = [node.op_type for node in onnx.load(str(arguments.out)).graph.node]
    sites = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert nodes.count("BatchNormalization") == sites, "the export lost BatchNormalization nodes"
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {sites} BatchNormalization nodes, clean test accuracy {accuracy(model, test_x, test_y):.4f}")


if __name__ == "__main__":
    main()
