#!/usr/bin/env python3
"""Trains networks without BatchNormalization on Fashion-MNIST: a small vision transformer and a small ConvNeXt, both with LayerNorm only.

With them is measured what adapts a network that has no BatchNormalization (README, "Bring your own model"). Needs what the demo's train.py needs, and takes its data,
augmentation and measure from there.
Usage: train.py vit|convnext [--data FOLDER] [--epochs N] [--out model.onnx]
"""
import argparse
import importlib.util
import pathlib

import torch
from torch import nn
from torch.nn import functional

HERE = pathlib.Path(__file__).resolve().parent
DEMO = HERE.parents[3] / "deploy/models/fashion-mnist/train.py"
spec = importlib.util.spec_from_file_location("demo", DEMO)
demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(demo)


class Encoder(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.mlp = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        n, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(-1, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(-1) @ v
        x = x + self.proj(mixed.transpose(1, 2).reshape(-1, tokens, width))
        return x + self.mlp(self.norm2(x))


class SmallVit(nn.Module):
    def __init__(self, width=64, depth=4, heads=4):
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 50, width))
        self.blocks = nn.Sequential(*(Encoder(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of [N,C,H,W], as torchvision's ConvNeXt has it."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.spread = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm, self.mlp = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.scale = nn.Parameter(torch.full((width, 1, 1), 0.1))

    def forward(self, x):
        return x + self.scale * self.mlp(self.norm(self.spread(x).permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class SmallConvNext(nn.Module):
    def __init__(self, widths=(32, 64)):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, widths[0], 2, 2), ChannelNorm(widths[0]))
        self.stages = nn.Sequential(ConvNextBlock(widths[0]), ConvNextBlock(widths[0]), ChannelNorm(widths[0]), nn.Conv2d(widths[0], widths[1], 2, 2),
                                    ConvNextBlock(widths[1]), ConvNextBlock(widths[1]))
        self.norm, self.head = nn.LayerNorm(widths[1]), nn.Linear(widths[1], 10)

    def forward(self, x):
        return self.head(self.norm(self.stages(self.stem(x)).mean((2, 3))))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("network", choices=("vit", "convnext"))
    parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args()

    torch.manual_seed(1)
    train_x, train_y = demo.load(arguments.data, "train")
    test_x, test_y = demo.load(arguments.data, "t10k")
    model = SmallVit() if arguments.network == "vit" else SmallConvNext()
    batch = 128
    steps = arguments.epochs * (len(train_x) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.2)
    for epoch in range(arguments.epochs):
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

    torch.onnx.export(
        model.eval(), torch.zeros(1, 1, 28, 28), str(arguments.out or HERE / f"{arguments.network}.onnx"), opset_version=17,
        input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}})
    print(f"{sum(p.numel() for p in model.parameters())} parameters")


if __name__ == "__main__":
    main()
