"""Exports torchvision's classifiers the default way (eval, constants folded), with random weights whose
BatchNorm knows random frames, for DeployedModelTests: python3 export_torchvision.py FOLDER [NAME ...]; TTA_DEPLOYED_MODELS=FOLDER."""
import os
import sys

import torch
import torchvision

NAMES = ("resnet18 resnet50 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large efficientnet_b0 densenet121 squeezenet1_1 vgg11_bn vgg16 alexnet googlenet "
         "inception_v3 shufflenet_v2_x1_0 mnasnet1_0 regnet_y_400mf wide_resnet50_2 resnext50_32x4d convnext_tiny vit_b_16 swin_t").split()
OPSET = 17
SIDES = {"inception_v3": 299}


def build(name):
    options = {"init_weights": False, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    model = getattr(torchvision.models, name)(weights=None, **options)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
            module.momentum = None
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(module, torch.nn.Linear) and not module.weight.any():
            # ViT's head: zeros would answer zeros to everything.
            torch.nn.init.normal_(module.weight, std=0.02)
    if any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
        with torch.no_grad():
            model.train()(2 * torch.rand(8, 3, side(name), side(name)) - 1)
    model.eval()
    for module in model.modules():
        if isinstance(module, torch.nn.MultiheadAttention):
            # PyTorch 1.13 can't export the fused attention that it takes in eval; without a dropout the other is the same.
            module.training = True
    return model


def side(name):
    return SIDES.get(name, 224)


def main(folder, names):
    torch.manual_seed(0)
    for name in names or NAMES:
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        model = build(name)
        mode = torch.onnx.TrainingMode.PRESERVE if name.startswith("vit") else torch.onnx.TrainingMode.EVAL
        torch.onnx.export(model, torch.randn(1, 3, side(name), side(name)), os.path.join(folder, name, "model.onnx"), opset_version=OPSET, training=mode, do_constant_folding=True,
                          input_names=["input"], output_names=["logits"], dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
