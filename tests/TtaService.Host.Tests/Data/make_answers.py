"""Makes the models of Data/answers, small and with random weights, and what a Python reference answers to two frames. Needs torch 1.13, torchvision 0.14, onnx and Pillow. Run it in this folder.

The reference preprocesses with Pillow, runs the torch module, and reads its outputs with torch and torchvision.ops only; boxes go back to the frame by the resize's own ratio."""
import json
import os

import numpy
import onnx
import torch
import torchvision
from PIL import Image, ImageOps
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator

SIDE = 64
CLASSES = 3
SCORE, IOU, MOST = 0.25, 0.45, 300


def seeded(seed):
    torch.manual_seed(seed)


def block(inputs, outputs, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def warmed(module, *shape):
    """Statistics of the norms that fit, so that activations neither vanish nor explode."""
    module.train()
    with torch.no_grad():
        for _ in range(20):
            module(torch.rand(8, *shape))
    return module.eval()


class Trunk(nn.Module):
    """Strides 8 and 16."""

    def __init__(self, width=16):
        super().__init__()
        self.early = nn.Sequential(block(3, width, 2), block(width, width, 2), block(width, width, 2))
        self.late = block(width, width, 2)
        self.out_channels = width

    def forward(self, x):
        near = self.early(x)
        return [near, self.late(near)]


class Yolo(nn.Module):
    """The head of YOLO v8: a distribution of 16 distances a side (DFL), centres and sizes in pixels, sigmoid of the classes; v5's, pose's and v10's from the same maps."""
    BINS = 16

    def __init__(self, kind, points=0):
        super().__init__()
        self.kind, self.points = kind, points
        self.trunk = Trunk()
        self.sides = nn.ModuleList(nn.Conv2d(16, 4 * self.BINS, 1) for _ in range(2))
        self.classes = nn.ModuleList(nn.Conv2d(16, 1 if points else CLASSES, 1) for _ in range(2))
        self.located = nn.ModuleList(nn.Conv2d(16, 3 * points, 1) for _ in range(2)) if points else None
        for convolution in self.sides:
            nn.init.normal_(convolution.weight, std=1.2)
        for convolution in self.classes:
            nn.init.normal_(convolution.weight, std=1.2)
            nn.init.constant_(convolution.bias, 0.3 if points else -1.5)

    def forward(self, image):
        boxes, scores, points = [], [], []
        for level, x in enumerate(self.trunk(image)):
            stride, size = (8, 8) if level == 0 else (16, 4)
            n = x.shape[0]
            distances = self.sides[level](x).view(n, 4, self.BINS, size * size).softmax(2)
            distances = (distances * torch.arange(self.BINS, dtype=torch.float32).view(1, 1, -1, 1)).sum(2) / 4
            y, x0 = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
            anchors = torch.stack([x0.reshape(-1), y.reshape(-1)])[None]
            low, high = anchors - distances[:, :2], anchors + distances[:, 2:]
            boxes.append(torch.cat([(low + high) / 2, high - low], 1) * stride)
            scores.append(self.classes[level](x).flatten(2).sigmoid())
            if self.points:
                raw = self.located[level](x).view(n, self.points, 3, size * size)
                xy = (raw[:, :, :2] * 2 + anchors[:, None] - 0.5) * stride
                points.append(torch.cat([xy, raw[:, :, 2:].sigmoid()], 2).view(n, 3 * self.points, size * size))
        boxes, scores = torch.cat(boxes, 2), torch.cat(scores, 2)
        if self.points:
            return torch.cat([boxes, scores, torch.cat(points, 2)], 1)
        if self.kind == "v5":
            sure = scores.amax(1, keepdim=True).sqrt()
            return torch.cat([boxes, sure, scores / sure], 1).transpose(1, 2)
        if self.kind == "v10":
            best, of = scores.max(1)
            sure, at = best.topk(20, 1)
            rows = boxes.transpose(1, 2).gather(1, at[..., None].expand(-1, -1, 4))
            corners = torch.cat([rows[..., :2] - rows[..., 2:] / 2, rows[..., :2] + rows[..., 2:] / 2], 2)
            return torch.cat([corners, sure[..., None], of.gather(1, at)[..., None].float()], 2)
        return torch.cat([boxes, scores], 1)


class Ultra(nn.Module):
    """Boxes in fractions of the input and a score a class, without their suppression."""

    def __init__(self):
        super().__init__()
        self.yolo = Yolo("v8")

    def forward(self, image):
        rows = self.yolo(image).transpose(1, 2)
        boxes = torch.cat([rows[..., :2] - rows[..., 2:4] / 2, rows[..., :2] + rows[..., 2:4] / 2], 2) / SIDE
        return boxes, rows[..., 4:]


class Lab(nn.Module):
    """DeepLabV3's head (torchvision's ASPP) of 16 channels instead of 256."""

    def __init__(self):
        super().__init__()
        self.trunk = Trunk()
        self.head = nn.Sequential(torchvision.models.segmentation.deeplabv3.ASPP(16, [2, 4, 6], 16), block(16, 16), nn.Conv2d(16, 5, 1))

    def forward(self, image):
        return nn.functional.interpolate(self.head(self.trunk(image)[0]), size=(SIDE, SIDE), mode="bilinear", align_corners=False)


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.last = Trunk(), nn.Linear(16, 24)

    def forward(self, image):
        return nn.functional.normalize(self.last(self.trunk(image)[1].mean((2, 3))))


class Scaled(nn.Module):
    """A trunk as torchvision's SSD takes it."""

    def __init__(self):
        super().__init__()
        self.trunk = Trunk()

    def forward(self, x):
        near, far = self.trunk(x)
        return {"0": near, "1": far}


def ssd():
    generator = DefaultBoxGenerator([[2], [2, 3]], min_ratio=30, max_ratio=80)
    head = torchvision.models.detection.ssdlite.SSDLiteHead([16, 16], generator.num_anchors_per_location(), CLASSES + 1, nn.BatchNorm2d)
    for module in head.classification_head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.6)
    return torchvision.models.detection.ssd.SSD(Scaled(), generator, (SIDE, SIDE), CLASSES + 1, head=head, score_thresh=0.2, nms_thresh=IOU, detections_per_img=40,
                                            image_mean=[0, 0, 0], image_std=[1, 1, 1])


def keypoint_rcnn():
    trunk = nn.Sequential(block(3, 16, 2), block(16, 16, 2), block(16, 16, 2))
    trunk.out_channels = 16
    detection = torchvision.models.detection
    heads = detection.keypoint_rcnn
    pool = torchvision.ops.MultiScaleRoIAlign(["0"], 3, 2)
    return detection.KeypointRCNN(
        trunk, None, min_size=SIDE, max_size=SIDE, image_mean=[0, 0, 0], image_std=[1, 1, 1],
        rpn_anchor_generator=AnchorGenerator(((8, 16, 32),), ((0.5, 1.0, 2.0),)), rpn_pre_nms_top_n_test=60, rpn_post_nms_top_n_test=20,
        box_roi_pool=pool, box_head=detection.faster_rcnn.TwoMLPHead(16 * 9, 32), box_predictor=detection.faster_rcnn.FastRCNNPredictor(32, 2),
        keypoint_roi_pool=torchvision.ops.MultiScaleRoIAlign(["0"], 6, 2), keypoint_head=heads.KeypointRCNNHeads(16, (16,)),
        keypoint_predictor=heads.KeypointRCNNPredictor(16, 5), box_score_thresh=0.1, box_detections_per_img=10)


def export(name, module, outputs, metadata=None, names=None):
    folder = f"answers/{name}"
    os.makedirs(folder, exist_ok=True)
    torch.onnx.export(module, torch.rand(1, 3, SIDE, SIDE), f"{folder}/model.onnx", opset_version=12, input_names=["images"], output_names=outputs,
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=True)
    graph = onnx.load(f"{folder}/model.onnx")
    for node in graph.graph.node:
        node.ClearField("doc_string")
    if metadata:
        onnx.helper.set_model_props(graph, metadata)
    onnx.save(graph, f"{folder}/model.onnx")
    size = os.path.getsize(f"{folder}/model.onnx")
    assert size <= 300_000, (name, size)
    print(name, size)


def frames():
    """A smooth picture of 90x60 with shapes in it, and the same lying on its side with an EXIF orientation."""
    rng = numpy.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 12, 3), dtype=numpy.uint8), "RGB").resize((90, 60), Image.BICUBIC)
    coarse.save("answers/frame.png")
    exif = Image.Exif()
    exif[274] = 6
    coarse.transpose(Image.ROTATE_90).save("answers/turned.png", exif=exif)
    wide = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=numpy.uint8), "RGB").resize((100, 161), Image.BICUBIC)
    wide.save("answers/tall.png")


def letterbox(image):
    gain = min(SIDE / image.width, SIDE / image.height)
    inner = (round(image.width * gain), round(image.height * gain))
    whole = Image.new("RGB", (SIDE, SIDE), (114, 114, 114))
    left, top = (SIDE - inner[0]) // 2, (SIDE - inner[1]) // 2
    whole.paste(image.resize(inner, Image.BILINEAR), (left, top))
    return whole, (inner[0] / image.width, inner[1] / image.height, left, top)


def stretch(image):
    return image.resize((SIDE, SIDE), Image.BILINEAR), (SIDE / image.width, SIDE / image.height, 0, 0)


def tensor(image):
    return torch.from_numpy(numpy.array(image)).permute(2, 0, 1)[None].float() / 255


def to_frame(points, place, size):
    scale_x, scale_y, left, top = place
    points = points.clone()
    points[..., 0::2] = ((points[..., 0::2] - left) / scale_x).clamp(0, size[0])
    points[..., 1::2] = ((points[..., 1::2] - top) / scale_y).clamp(0, size[1])
    return points


def suppressed(boxes, scores, labels):
    kept = torchvision.ops.batched_nms(boxes, scores, labels, IOU)[:MOST]
    return boxes[kept], scores[kept], labels[kept], kept


def centred(rows):
    return torch.cat([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], 1)


def read(kind, given):
    """Boxes in the input's pixels, scores, labels, points [K,P,3]."""
    if kind in ("v8", "v5", "pose"):
        rows = given[0] if kind == "v5" else given[0].T
        scores, labels = (rows[:, 4:5] * rows[:, 5:]).max(1) if kind == "v5" else rows[:, 4:4 + (1 if kind == "pose" else CLASSES)].max(1)
        sure = scores > SCORE
        boxes, scores, labels, kept = suppressed(centred(rows)[sure], scores[sure], labels[sure])
        return boxes, scores, labels, rows[sure][kept][:, 5:].view(-1, 5, 3) if kind == "pose" else None
    if kind == "v10":
        rows = given[0][given[0][:, 4] > SCORE]
        return rows[:, :4], rows[:, 4], rows[:, 5].long(), None
    boxes, scores = given[0][0] * SIDE, given[1][0]
    at, labels = (scores > SCORE).nonzero(as_tuple=True)
    boxes, scores, labels, _ = suppressed(boxes[at], scores[at, labels], labels)
    return boxes, scores, labels, None


def found(boxes, scores, labels, points, place, size):
    boxes = to_frame(boxes, place, size)
    if points is not None and len(points):
        points = torch.cat([to_frame(points[..., :2].reshape(len(points), -1), place, size).view(*points.shape[:2], 2), points[..., 2:]], 2)
    return [{"box": [round(v, 4) for v in box.tolist()], "score": round(score, 6), "class": label, "points": [] if points is None else
             [[round(v, 4) for v in point] for point in points[i].tolist()]} for i, (box, score, label) in enumerate(zip(boxes, scores.tolist(), labels.tolist()))]


def expect(name, kind, module, prepare, pictures):
    expected = {}
    with torch.no_grad():
        for picture in pictures:
            image = Image.open(f"answers/{picture}.png").convert("RGB")
            seen, place = prepare(image)
            size = image.size
            if kind in ("ssd", "rcnn"):
                given = module([tensor(seen)[0]])[0]
                sure = given["scores"] > SCORE
                points = torch.cat([given["keypoints"][sure][..., :2], given["keypoints_scores"][sure][..., None]], 2) if kind == "rcnn" else None
                expected[picture] = found(given["boxes"][sure], given["scores"][sure], given["labels"][sure], points, place, size)
            elif kind == "map":
                logits = module(tensor(seen))
                classes = nn.functional.interpolate(logits, size=(image.height, image.width), mode="bilinear", align_corners=False).argmax(1)[0]
                Image.fromarray(classes.byte().numpy(), "L").save(f"answers/{name}/{picture}.map.png")
                expected[picture] = {"shares": [round(float((classes == c).float().mean()), 6) for c in range(5)]}
            elif kind == "vector":
                expected[picture] = {"vector": [round(v, 6) for v in module(tensor(seen))[0].tolist()]}
            else:
                expected[picture] = found(*read(kind, module(tensor(seen))), place, size)
            print(" ", picture, len(expected[picture]), [entry["class"] for entry in expected[picture]] if isinstance(expected[picture], list) else expected[picture])
    with open(f"answers/{name}/expected.json", "w") as file:
        json.dump(expected, file)


def metadata(task, count, **more):
    return {"stride": "16", "names": str({i: f"thing {i}" for i in range(count)}), "imgsz": f"[{SIDE}, {SIDE}]", **({"task": task} if task else {}), **more}


os.makedirs("answers", exist_ok=True)
frames()
pictures = ["frame", "tall"]
for name, kind, points, said in [("yolo-v8", "v8", 0, metadata("detect", CLASSES)), ("yolo-v5", "v5", 0, metadata(None, CLASSES)),
                                 ("yolo-v10", "v10", 0, metadata("detect", CLASSES)), ("yolo-pose", "pose", 5, metadata("pose", 1, kpt_shape="[5, 3]"))]:
    seeded(7)
    network = warmed(Yolo(kind, points), 3, SIDE, SIDE)
    export(name, network, ["output0"], said)
    expect(name, kind, network, letterbox, pictures)
seeded(7)
network = warmed(Ultra(), 3, SIDE, SIDE)
export("boxes-scores", network, ["boxes", "scores"])
expect("boxes-scores", "plain", network, stretch, pictures)
seeded(3)
network = warmed(Lab(), 3, SIDE, SIDE)
with torch.no_grad():
    # Every class somewhere.
    seen = torch.cat([network(tensor(stretch(Image.open(f"answers/{picture}.png").convert("RGB"))[0])) for picture in pictures])
    mean, deviation = seen.mean((0, 2, 3)), seen.std((0, 2, 3))
    network.head[-1].weight /= deviation.view(-1, 1, 1, 1)
    network.head[-1].bias.copy_((network.head[-1].bias - mean) / deviation)
export("deeplab", network, ["out"])
expect("deeplab", "map", network, stretch, pictures)
seeded(3)
network = warmed(Embedder(), 3, SIDE, SIDE)
export("embedder", network, ["vector"])
expect("embedder", "vector", network, stretch, pictures)
seeded(5)
network = ssd()
warmed(network.backbone, 3, SIDE, SIDE)
network.eval()
export("ssdlite", network, ["boxes", "scores", "labels"])
expect("ssdlite", "ssd", network, stretch, pictures)
seeded(5)
network = keypoint_rcnn()
warmed(network.backbone, 3, SIDE, SIDE)
network.eval()
export("keypoint-rcnn", network, ["boxes", "labels", "scores", "keypoints", "keypoints_scores"])
expect("keypoint-rcnn", "rcnn", network, stretch, pictures)
