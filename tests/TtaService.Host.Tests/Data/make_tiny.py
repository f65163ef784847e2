"""Makes the models of the tests; 3x16x16 input, five classes. Needs torch and onnx. Run it in this folder.

models/tiny/model.onnx: three normalization sites. two-models/plain/model.onnx: the same, BatchNormalization folded away.
"""
import os

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
    nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
    nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
)
for module in model.modules():
    if isinstance(module, nn.BatchNorm2d):
        nn.init.uniform_(module.running_mean, -0.5, 0.5)
        nn.init.uniform_(module.running_var, 0.5, 1.5)
        nn.init.uniform_(module.weight, 0.5, 1.5)
        nn.init.uniform_(module.bias, -0.2, 0.2)


def export(path, training):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    torch.onnx.export(
        model.eval(), torch.zeros(1, 3, 16, 16), path, opset_version=13,
        input_names=["image"], output_names=["scores"], dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
        training=training, do_constant_folding=False)


export("models/tiny/model.onnx", torch.onnx.TrainingMode.PRESERVE)
export("two-models/plain/model.onnx", torch.onnx.TrainingMode.EVAL)
