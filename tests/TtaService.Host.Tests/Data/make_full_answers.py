"""Makes detectors and segmenters at full size with random weights, and what torch answers to a frame of 1280x720, for FullSizeAnswerTests:
python3 make_full_answers.py FOLDER [NAME ...]; TTA_ANSWER_MODELS=FOLDER. Needs torch 1.13, torchvision 0.14 and Pillow; 1 GB on the disk.

The reference preprocesses with Pillow, runs the torch module, and reads its outputs with torch and torchvision.ops only; boxes go back to the frame by the resize's own ratio."""
import json
import os
import sys

import numpy
import torch
import torchvision
from PIL import Image
from torch import nn

WIDTH, HEIGHT = 1280, 720
PLAIN = {"weights": None, "weights_backbone": None}
UNSCALED = {"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}


def frame():
    rng = numpy.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 256, (18, 32, 3), dtype=numpy.uint8), "RGB").resize((WIDTH, HEIGHT), Image.BICUBIC)


def tensor(image):
    return torch.from_numpy(numpy.array(image)).permute(2, 0, 1)[None].float() / 255


def warmed(module, side):
    """Norms that know the frame: what differs in it differs at every depth, by more than what is rounded."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
            part.reset_running_stats()
    seen = tensor(frame().resize((side, side), Image.BILINEAR))
    module.train()
    with torch.no_grad():
        module(torch.cat([seen, seen.flip(3)]))
    return module.eval()


def spread(convolution, run, deviation, mean):
    """Outputs that differ from place to place: of this mean and deviation a channel. Random networks answer nearly the same everywhere."""
    seen = []
    hook = convolution.register_forward_hook(lambda module, inputs, output: seen.append(output.transpose(0, 1).flatten(1)))
    run()
    hook.remove()
    values = torch.cat(seen, 1)
    scale = deviation / values.std(1)
    convolution.weight *= scale.view(-1, 1, 1, 1)
    convolution.bias.copy_((convolution.bias - values.mean(1)) * scale + mean)


def unit(inputs, outputs, kernel=1, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs, eps=1e-3), nn.SiLU())


class Bottleneck(nn.Module):
    def __init__(self, width, adds):
        super().__init__()
        self.first, self.second, self.adds = unit(width, width, 3), unit(width, width, 3), adds

    def forward(self, x):
        y = self.second(self.first(x))
        return x + y if self.adds else y


class C2f(nn.Module):
    def __init__(self, inputs, outputs, count, adds):
        super().__init__()
        self.half = outputs // 2
        self.enter, self.leave = unit(inputs, outputs), unit((2 + count) * self.half, outputs)
        self.blocks = nn.ModuleList(Bottleneck(self.half, adds) for _ in range(count))

    def forward(self, x):
        parts = list(self.enter(x).split(self.half, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.leave(torch.cat(parts, 1))


class Sppf(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.enter, self.leave, self.pool = unit(width, width // 2), unit(2 * width, width), nn.MaxPool2d(5, 1, 2)

    def forward(self, x):
        x = self.enter(x)
        y = self.pool(x)
        z = self.pool(y)
        return self.leave(torch.cat([x, y, z, self.pool(z)], 1))


class YoloV8(nn.Module):
    """YOLOv8n for 640x640 and 80 classes: layers, widths and head as published."""
    BINS, CLASSES, SIDE = 16, 80, 640

    def __init__(self):
        super().__init__()
        self.near = nn.Sequential(unit(3, 16, 3, 2), unit(16, 32, 3, 2), C2f(32, 32, 1, True), unit(32, 64, 3, 2), C2f(64, 64, 2, True))
        self.middle = nn.Sequential(unit(64, 128, 3, 2), C2f(128, 128, 2, True))
        self.far = nn.Sequential(unit(128, 256, 3, 2), C2f(256, 256, 1, True), Sppf(256))
        self.up = nn.Upsample(scale_factor=2)
        self.top, self.bottom = C2f(384, 128, 1, False), C2f(192, 64, 1, False)
        self.down, self.back = nn.ModuleList([unit(64, 64, 3, 2), unit(128, 128, 3, 2)]), nn.ModuleList([C2f(192, 128, 1, False), C2f(384, 256, 1, False)])
        self.sides = nn.ModuleList(nn.Sequential(unit(w, 64, 3), unit(64, 64, 3), nn.Conv2d(64, 4 * self.BINS, 1)) for w in (64, 128, 256))
        self.classes = nn.ModuleList(nn.Sequential(unit(w, 80, 3), unit(80, 80, 3), nn.Conv2d(80, self.CLASSES, 1)) for w in (64, 128, 256))
        for sides, classes in zip(self.sides, self.classes):
            nn.init.normal_(sides[-1].weight, std=0.4)
            nn.init.normal_(classes[-1].weight, std=0.4)
            nn.init.constant_(classes[-1].bias, -8.0)

    def forward(self, image):
        near = self.near(image)
        middle = self.middle(near)
        far = self.far(middle)
        top = self.top(torch.cat([self.up(far), middle], 1))
        small = self.bottom(torch.cat([self.up(top), near], 1))
        medium = self.back[0](torch.cat([self.down[0](small), top], 1))
        large = self.back[1](torch.cat([self.down[1](medium), far], 1))
        boxes, scores = [], []
        for x, sides, classes, stride in zip((small, medium, large), self.sides, self.classes, (8, 16, 32)):
            n, cells = x.shape[0], self.SIDE // stride
            distances = sides(x).view(n, 4, self.BINS, cells * cells).softmax(2)
            distances = (distances * torch.arange(self.BINS, dtype=torch.float32).view(1, 1, -1, 1)).sum(2)
            y, x0 = torch.meshgrid(torch.arange(cells) + 0.5, torch.arange(cells) + 0.5, indexing="ij")
            anchors = torch.stack([x0.reshape(-1), y.reshape(-1)])[None]
            low, high = anchors - distances[:, :2], anchors + distances[:, 2:]
            boxes.append(torch.cat([(low + high) / 2, high - low], 1) * stride)
            scores.append(classes(x).flatten(2).sigmoid())
        return torch.cat([torch.cat(boxes, 2), torch.cat(scores, 2)], 1)


class Maps(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network(image)["out"]


def deeplab(side=520):
    network = warmed(torchvision.models.segmentation.deeplabv3_resnet50(num_classes=21, **PLAIN), 256)
    last, seen = network.classifier[-1], tensor(frame().resize((side, side), Image.BILINEAR))
    with torch.no_grad():
        # Every class somewhere.
        maps = network(seen)["out"]
        mean, deviation = maps.mean((0, 2, 3)), maps.std((0, 2, 3))
        last.weight /= deviation.view(-1, 1, 1, 1)
        last.bias.copy_((last.bias - mean) / deviation)
    return Maps(network).eval(), side


def ssdlite(side=320):
    model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(num_classes=91, score_thresh=0.05, detections_per_img=200, **PLAIN, **UNSCALED)
    warmed(model.backbone, side)
    model.eval()
    seen = tensor(frame().resize((side, side), Image.BILINEAR))
    for level in model.head.classification_head.module_list:
        spread(level[-1], lambda: model([seen[0]]), 2.0, 0.0)
    return model, side


def settled(model):
    """Of backbones with frozen norms, which say nothing of random weights: residual branches that do not explode."""
    for name, module in model.named_modules():
        if name.endswith("bn3"):
            module.weight.fill_(0.1)
    return model.eval()


def faster_rcnn(side=320):
    model = settled(torchvision.models.detection.fasterrcnn_resnet50_fpn(
        num_classes=91, min_size=side, max_size=side, box_score_thresh=0.02, box_detections_per_img=50, **PLAIN, **UNSCALED))
    nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=2.0)
    return model, side


def keypoint_rcnn(side=320):
    model = torchvision.models.detection.keypointrcnn_resnet50_fpn(
        num_classes=2, num_keypoints=17, min_size=side, max_size=side, box_score_thresh=0.02, box_detections_per_img=20, **PLAIN, **UNSCALED)
    return settled(model), side


def retinanet(side=320):
    model = settled(torchvision.models.detection.retinanet_resnet50_fpn(
        num_classes=91, min_size=side, max_size=side, score_thresh=0.02, detections_per_img=50, **PLAIN, **UNSCALED))
    seen = tensor(frame().resize((side, side), Image.BILINEAR))
    spread(model.head.classification_head.cls_logits, lambda: model([seen[0]]), 1.0, -5.5)
    spread(model.head.regression_head.bbox_reg, lambda: model([seen[0]]), 0.3, 0.0)
    return model, side


def yolo(side=640):
    model = warmed(YoloV8(), side)
    seen = tensor(letterboxed(frame(), side)[0])
    for classes in model.classes:
        spread(classes[-1], lambda: model(seen), 2.0, -6.0)
    return model, side


def found(boxes, scores, labels, points, place):
    x, y, left, top = place
    boxes, points = boxes.clone(), None if points is None else points.clone()
    boxes[:, 0::2], boxes[:, 1::2] = ((boxes[:, 0::2] - left) / x).clamp(0, WIDTH), ((boxes[:, 1::2] - top) / y).clamp(0, HEIGHT)
    if points is not None:
        points[..., 0], points[..., 1] = ((points[..., 0] - left) / x).clamp(0, WIDTH), ((points[..., 1] - top) / y).clamp(0, HEIGHT)
    return [{"box": box, "score": score, "class": label, "points": [] if points is None else points[i].tolist()}
            for i, (box, score, label) in enumerate(zip(boxes.tolist(), scores.tolist(), labels.tolist()))]


def letterboxed(image, side):
    gain = side / max(image.width, image.height)
    inner = (round(image.width * gain), round(image.height * gain))
    whole = Image.new("RGB", (side, side), (114, 114, 114))
    left, top = (side - inner[0]) // 2, (side - inner[1]) // 2
    whole.paste(image.resize(inner, Image.BILINEAR), (left, top))
    return whole, (inner[0] / image.width, inner[1] / image.height, left, top)


def answer(name, model, side, image):
    if name == "yolo":
        seen, place = letterboxed(image, side)
        rows = model(tensor(seen))[0].T
        scores, labels = rows[:, 4:].max(1)
        sure = scores > 0.25
        boxes = torch.cat([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], 1)[sure]
        scores, labels = scores[sure], labels[sure]
        kept = torchvision.ops.batched_nms(boxes, scores, labels, 0.45)[:300]
        return found(boxes[kept], scores[kept], labels[kept], None, place)
    seen, place = image.resize((side, side), Image.BILINEAR), (side / WIDTH, side / HEIGHT, 0, 0)
    if name == "deeplab":
        return nn.functional.interpolate(model(tensor(seen)), size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False).argmax(1)[0]
    given = model([tensor(seen)[0]])[0]
    points = torch.cat([given["keypoints"][..., :2], given["keypoints_scores"][..., None]], 2) if "keypoints" in given else None
    return found(given["boxes"], given["scores"], given["labels"], points, place)


MODELS = {
    "deeplab": (deeplab, ["out"]), "yolo": (yolo, ["output0"]), "ssdlite": (ssdlite, ["boxes", "scores", "labels"]), "faster-rcnn": (faster_rcnn, ["boxes", "labels", "scores"]),
    "retinanet": (retinanet, ["boxes", "scores", "labels"]), "keypoint-rcnn": (keypoint_rcnn, ["boxes", "labels", "scores", "keypoints", "keypoints_scores"]),
}


def main(folder, names):
    os.makedirs(folder, exist_ok=True)
    image = frame()
    image.save(os.path.join(folder, "frame.png"))
    for name in names or MODELS:
        torch.manual_seed(0)
        build, outputs = MODELS[name]
        with torch.no_grad():
            model, side = build()
            expected = answer(name, model, side, image)
        place = os.path.join(folder, name)
        os.makedirs(place, exist_ok=True)
        if name == "deeplab":
            Image.fromarray(expected.byte().numpy(), "L").save(os.path.join(place, "map.png"))
            print(name, len(expected.unique()), "classes", flush=True)
        else:
            with open(os.path.join(place, "expected.json"), "w") as file:
                json.dump(expected, file)
            print(name, len(expected), "boxes of", len({box["class"] for box in expected}), "classes, scores", [round(box["score"], 3) for box in expected[:3]], flush=True)
        torch.onnx.export(model, torch.rand(1, 3, side, side), os.path.join(place, "model.onnx"), opset_version=12, input_names=["images"], output_names=outputs,
                          training=torch.onnx.TrainingMode.PRESERVE)
        fit = {"fit": "letterbox" if name == "yolo" else "stretch", "resize": [side, side], "mean": [0, 0, 0], "std": [1, 1, 1]}
        # What the models that suppress by themselves let through is what is compared.
        detection = {} if name in ("yolo", "deeplab") else {"detection": {"score_threshold": 0, "max_boxes": 1000}}
        with open(os.path.join(place, "model.json"), "w") as file:
            labels = {"labels": [f"thing {i}" for i in range(YoloV8.CLASSES)]} if name == "yolo" else {}
            json.dump({"preprocessing": fit, **detection, **labels}, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
