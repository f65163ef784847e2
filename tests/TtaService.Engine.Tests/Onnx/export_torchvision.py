"""Exports torchvision's convolutional classifiers the default way (eval, constants folded), with random weights whose
BatchNorm knows random frames, for DeployedModelTests: python3 export_torchvision.py FOLDER [NAME ...]; TTA_DEPLOYED_MODELS=FOLDER."""
import os
import sys

import torch
import torchvision

NAMES = ("resnet18 resnet50 mobilenet_v2 mobilenet_v3_small efficientnet_b0 densenet121 squeezenet1_1 vgg11_bn googlenet shufflenet_v2_x1_0 "
         "mnasnet1_0 regnet_y_400mf convnext_tiny").split()
OPSET = 17


def build(name):
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    model = getattr(torchvision.models, name)(weights=None, **options)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
            module.momentum = None
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        model.train()(2 * torch.rand(8, 3, 224, 224) - 1)
    return model.eval()


def main(folder, names):
    torch.manual_seed(0)
    for name in names or NAMES:
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        torch.onnx.export(build(name), torch.randn(1, 3, 224, 224), os.path.join(folder, name, "model.onnx"), opset_version=OPSET, do_constant_folding=True,
                          input_names=["input"], output_names=["logits"], dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
