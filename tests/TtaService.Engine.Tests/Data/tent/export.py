#!/usr/bin/python3
"""Writes the golden vectors of affine training beside this file: `model.onnx`, a small residual network, and `steps.safetensors`.

    python3 export.py

The reference is Tent's published rule (Wang et al., ICLR 2021; github.com/DequanWang/tent, tent.py) on all BatchNorm2d layers, in float64: batch statistics, the mean entropy
of the predictions as loss, scale and bias as parameters, the answer of the last pass before its update. `eata` adds the published selection of frames (Niu et al., ICML 2022;
github.com/mr-eggplant/EATA, eata.py, without the Fisher term): surer than a margin, not like the moving average of predictions, and the surer the heavier.
For each case, step t and layer i: `CASE.logits.t` [n,Q], `CASE.i.scale.t`, `CASE.i.bias.t` [C]; `frames.t` [n,3,12,12] for all of them.
"""
import copy, json, math, pathlib
import numpy as np
import torch
from torch import nn
from torch.nn import functional

HERE = pathlib.Path(__file__).parent
STEPS, FRAMES, CLASSES = 6, 8, 6
MARGIN = 0.85 * math.log(CLASSES)
CASES = {
    "adam": dict(optimizer="adam"),
    "sgd": dict(optimizer="sgd", rate=0.05),
    "rounds": dict(optimizer="adam", rounds=2),
    "mixed": dict(optimizer="adam", weight=0.3),
    "eata": dict(optimizer="sgd", rate=0.05, margin=MARGIN, likeness=0.8),
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 12, 3, 1, 1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 16, 3, 2, 1), nn.BatchNorm2d(16)
        self.down, self.bn3 = nn.Conv2d(12, 16, 1, 2, bias=False), nn.BatchNorm2d(16)
        self.conv4, self.bn4 = nn.Conv2d(16, 16, 3, 1, 1, groups=4), nn.BatchNorm2d(16)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 2)
        x = functional.relu(self.bn2(self.conv2(x)) + self.bn3(self.down(x)))
        x = functional.relu6(self.bn4(self.conv4(x)) + x)
        return self.fc(torch.flatten(functional.adaptive_avg_pool2d(x, 1), 1))


class Mixed(nn.Module):
    """BatchNorm2d with (1-w) source + w batch statistics, biased; w = 1 is what Tent's code makes of a layer."""
    def __init__(self, layer, weight):
        super().__init__()
        self.weight, self.bias, self.w, self.eps = layer.weight, layer.bias, weight, layer.eps
        self.mean, self.var = layer.running_mean.clone(), layer.running_var.clone()

    def forward(self, x):
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        mean, var = (1 - self.w) * self.mean + self.w * mean, (1 - self.w) * self.var + self.w * var
        per = [v[None, :, None, None] for v in (mean, (var + self.eps).rsqrt() * self.weight, self.bias)]
        return (x - per[0]) * per[1] + per[2]


def entropy(logits):
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


def run(source, frames, optimizer, rate=1e-3, rounds=1, weight=1.0, margin=None, likeness=None):
    net = copy.deepcopy(source).double()
    net.requires_grad_(False)
    layers = []
    for name in ("bn1", "bn2", "bn3", "bn4"):
        layer = Mixed(getattr(net, name), weight)
        layer.weight.requires_grad_(True), layer.bias.requires_grad_(True)
        setattr(net, name, layer)
        layers.append(layer)
    parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
    rule = torch.optim.Adam(parameters, lr=rate) if optimizer == "adam" else torch.optim.SGD(parameters, lr=rate, momentum=0.9, nesterov=True)
    average, told = None, []
    for x in frames:
        for _ in range(rounds):
            logits = net(x.double())
            losses = entropy(logits)
            if margin is None:
                loss = losses.mean()
            else:
                sure = torch.where(losses < margin)[0]
                p = logits[sure].softmax(1).detach()
                if average is not None:
                    alike = functional.cosine_similarity(average.unsqueeze(0), p, dim=1).abs() < likeness
                    sure, p = sure[alike], p[alike]
                kept = losses[sure]
                if len(p) > 0:
                    average = p.mean(0) if average is None else 0.9 * average + 0.1 * p.mean(0)
                loss = (kept * torch.exp(margin - kept.detach())).mean() if len(p) > 0 else None
            if loss is not None:
                rule.zero_grad()
                loss.backward()
                rule.step()
        told.append((logits.detach(), [(layer.weight.detach().clone(), layer.bias.detach().clone()) for layer in layers], None if average is None else average.clone(),
                     0 if margin is None else len(p)))
    return told


def write(path, tensors):
    header, at, parts = {}, 0, []
    for name, value in tensors.items():
        value = np.ascontiguousarray(value.numpy()).astype("<f4")
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
        parts.append(value.tobytes())
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


torch.manual_seed(20261126)
net = Net().eval()
with torch.no_grad():
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.weight.uniform_(0.5, 1.5), m.bias.normal_(0, 0.3), m.running_mean.normal_(0, 0.3), m.running_var.uniform_(0.3, 1.5)
    net.fc.weight.mul_(6)
frames = [functional.interpolate(torch.randn(FRAMES, 3, 5, 5), size=(12, 12), mode="bilinear", align_corners=False) * 1.5 + 0.5 * torch.randn(1, 3, 1, 1) for _ in range(STEPS)]
with torch.no_grad():                                                      # no class is everybody's
    trained = copy.deepcopy(net)
    for name in ("bn1", "bn2", "bn3", "bn4"):
        setattr(trained, name, Mixed(getattr(trained, name), 1.0))
    net.fc.bias.sub_(trained(torch.cat(frames)).mean(0))
torch.onnx.export(net, frames[0], HERE / "model.onnx", opset_version=13, training=torch.onnx.TrainingMode.PRESERVE, input_names=["input"], output_names=["logits"],
                  dynamic_axes={"input": {0: "n"}, "logits": {0: "n"}})
tensors = {f"frames.{t}": x for t, x in enumerate(frames)}
for case, settings in CASES.items():
    for t, (logits, layers, average, kept) in enumerate(run(net, frames, **settings)):
        tensors[f"{case}.logits.{t}"] = logits
        for i, (scale, bias) in enumerate(layers):
            tensors[f"{case}.{i}.scale.{t}"], tensors[f"{case}.{i}.bias.{t}"] = scale, bias
        if average is not None:
            tensors[f"{case}.average.{t}"] = average
        print(case, t, "entropy", entropy(logits).mean().item(), "kept", kept, "moved", max((a - b).abs().max().item() for (a, _), b in zip(layers, [net.bn1.weight, net.bn2.weight, net.bn3.weight, net.bn4.weight])))
write(HERE / "steps.safetensors", tensors)
