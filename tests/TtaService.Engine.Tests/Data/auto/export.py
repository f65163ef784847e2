#!/usr/bin/python3
"""Writes the golden vectors beside this file: streams of the demo model run by the prototype of `auto`.

    TTA_AUTO=FOLDER TTA_REPO=REPOSITORY python3 export.py

FOLDER holds the prototype (auto.py, calib.py, sim.py, ...); `python3 data.py 5` there makes the corrupted frames first.
`calibration.safetensors`: what calib.py measures on the first 2,000 training images, and on the first 512 test images.
`streams.safetensors`: of each stream its frames (uint8), and for each batch size the answered probabilities and the state at the end;
of the calibrated variant (auto3, and what guards it against classes) and of the uncalibrated one (auto-nocal, whose trust here starts at its prior instead of 1).
"""
import json, math, os, pathlib, sys
import numpy as np
os.environ.setdefault("OMP_NUM_THREADS", "2")
sys.dont_write_bytecode = True
sys.path.insert(0, os.environ["TTA_AUTO"])
import torch, calib, data, sim, auto, net as netmod

HERE = pathlib.Path(__file__).parent
IMAGES = 384
STREAMS = {                                                                # (domain, order, frames) one after another
    "corrupted": [(1, "d.1", IMAGES)],                                     # gaussian noise, correlated
    "clean": [(0, "d.1", IMAGES)],
    "changing": [(0, "d.1", 96), (10, "d.1", 96), (6, "d.1", 96), (0, "d.1", 96)],   # clean, fog, motion blur, clean
    "independent": [(12, "iid", IMAGES)],                                  # contrast
}


def write(path, tensors):
    header, at, parts = {}, 0, []
    for name, value in tensors.items():
        value = np.ascontiguousarray(value)
        value = value if value.dtype == np.uint8 else value.astype("<f4")
        header[name] = {"dtype": "U8" if value.dtype == np.uint8 else "F32", "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        at += value.nbytes
        parts.append(value.tobytes())
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def calibration(net, frames, prefix):
    calib.CACHE.clear()
    calib.frames = lambda _: net.pre(frames)[:, None]
    measured = calib.get(net)
    tensors = {prefix + "prior": measured["pi"].numpy(), prefix + "entropy": measured["ent"].numpy()}
    for i, site in enumerate(measured["sites"]):
        for key, name in (("mu", "mean"), ("fv", "mean_var"), ("ev", "var"), ("vv", "var_var"), ("cm", "class_mean"), ("cv", "class_var")):
            tensors[f"{prefix}{i}.{name}"] = site[key].numpy()
        for key in ("share", "dcl", "d95"):
            tensors[f"{prefix}{i}.{key}"] = np.array([site[key]])
    return tensors


class ClassGuarded(auto.K):
    """The prototype, and past it: a step's own moments are taken only as far as they lie past the nearest class, too; a few far frames teach a settled stream nothing."""
    def change(self):
        settled, limit = self.w > 32, self.h / 12
        apart = self.apart()
        excess = apart / self.D0.clamp_min(1) - 1 - self.drift
        self.g = (self.g + self.B * torch.where(settled, excess.clamp_max(limit), excess)).clamp_min(0)
        hit = (self.g > self.h) & (self.w > self.nr * 2)
        self.w, self.g = torch.where(hit, torch.full_like(self.w, self.nr), self.w), torch.where(hit, 0 * self.g, self.g)
        self.D0 = auto.lerp(self.D0, apart, self.B / (32 + self.B))

    def apart(self):
        total = 0
        for t in self.net.sites[:4]:
            c, (mean, variance), (m, v, _, _) = self.cal["sites"][t.i], self.st[t.i][:2], self.mom[t.i]
            total = total + self.D(c, m - mean, v - (variance - c["fv"])).mean(1, keepdim=True)
        return total / 4

    def suspends(self):
        limit = self.h / 12
        held = self.w > 32 and self.apart() / self.D0.clamp_min(1) - 1 - self.drift > 2 and self.g + self.B * limit <= self.h
        if held:
            self.g, self.n = self.g + self.B * limit, self.n + self.B
        return bool(held)

    def site(self, t, m, v, pixels):
        c, (_, _, own_mean, own_variance, w) = self.cal["sites"][t.i], self.st[t.i]
        step_mean, step_variance = auto.batch(m, v)
        self.mom[t.i] = (m, v, step_mean, step_variance)
        mean, variance = auto.lerp(c["mu"], own_mean, w), auto.lerp(c["V"], own_variance, w)
        within = v.mean(1, keepdim=True)
        if self.B > 1:
            share, one, imbalance = c["share"], 1 / self.B, (3 * self.chq).clamp_max(1)
            correlation = self.kappa(c, m, step_variance, t)
            noise = (1 - share) * one + max(share, c["dcl"]) * torch.maximum(one + (1 - one) * correlation, imbalance)
            dm, dv = step_mean - mean, within - (variance - c["fv"])
            distance, scale = self.D(c, dm, dv), (variance + t.eps) / (c["V"] + t.eps)
            nearest = torch.minimum(distance, self.D(c, dm - c["cm"][None] * scale.sqrt(), dv - c["cv"][None] * scale).min(1, keepdim=True)[0])
            past_class = nearest - (1 - share) * max(2, c["d95"]) / math.sqrt(self.B)
            excess = torch.minimum(distance - (1 + imbalance) * noise, past_class)
            signal = torch.maximum((1 - correlation) * w / (self.w + 1), excess).clamp_min(0)
            r = signal / (signal + noise)
            mean, variance = auto.lerp(mean, step_mean, r), auto.lerp(variance, step_variance, r) + r * (1 - r) * (step_mean - mean) ** 2
        distance = self.D(c, m - mean, v - (variance - c["fv"]))
        if self.B > 1:
            distance = torch.minimum(distance, self.D(c, m - step_mean, v - within) * self.B / (self.B - 1))
        tolerance = 1 + float(((1.75 - self.D0) / .5).clamp(0, 1)) * self.n / (self.n + 16)
        signal = (distance - tolerance * max(2, c["d95"])).clamp_min(0)
        r, d = signal / (signal + 1), m - mean
        mean, variance = auto.lerp(mean, m, r), auto.lerp(variance, v, r) + r * (1 - r) * d * d
        mean, variance = auto.lerp(c["mu"], mean, self.T), auto.lerp(c["V"], variance, self.T)
        return t.mu + (mean - c["mu"]), (t.var + t.eps) * (variance + t.eps) / (c["V"] + t.eps) - t.eps


class Uncalibrated(auto.NC):
    change, apart, suspends = ClassGuarded.change, ClassGuarded.apart, ClassGuarded.suspends

    def __init__(self, *given, **settings):
        super().__init__(*given, **settings)
        self.T = torch.sigmoid(torch.full_like(self.T, self.t0))


VARIANTS = {"auto": auto.V(ClassGuarded, **auto.FIN3), "nocal": auto.V(Uncalibrated, **{**auto.FIN3, "guard": 1, "sb": -.03, "t0": -2.})}


def run(net, frames, make, size):
    method, answers = make(net, 1, size), []
    for at in range(0, len(frames) // size * size, size):
        x = net.pre(frames[at:at + size])[:, None]
        shadowed = method.shadow_plan()
        logits = net(x, method, 1).view(1, size, -1)
        if getattr(method, "suspends", bool)():
            answers.append(torch.softmax(logits, 2)[0].numpy())
            continue
        if shadowed:
            method.see(net(x[:shadowed]).view(1, shadowed, -1), logits[:, :shadowed])
        answers.append(torch.softmax(method.end(logits, None), 2)[0].numpy())
    return method, np.concatenate(answers)


def main():
    net = netmod.Net("demo")
    images, labels = data.test()[0], data.test()[1][:sim.N]
    tensors = calibration(net, images[:512], "sample.")
    tensors.update(calibration(net, data.train()[0][:2000], ""))
    write(HERE / "calibration.safetensors", tensors)
    corrupted, tensors = data.get(5), {}
    for number, (name, parts) in enumerate(STREAMS.items()):
        random = np.random.default_rng([7, number])
        orders = [(domain, sim.order(order, labels, count, random)) for domain, order, count in parts]
        frames = np.concatenate([corrupted[domain][order] for domain, order in orders])
        truth = np.concatenate([labels[order] for _, order in orders])
        tensors[f"{name}.frames"], tensors[f"{name}.labels"] = frames, truth.astype(np.uint8)
        for size in (1, 16, 64):
            for variant, make in VARIANTS.items():
                method, answers = run(net, frames, make, size)
                key = f"{name}.{size}.{variant}."
                tensors[key + "probabilities"] = answers
                tensors[key + "site0.mean"], tensors[key + "site0.var"] = (value[0, 0].numpy() for value in method.st[0][:2])
                tensors[key + "clock"] = method.w.view(1).numpy()
                tensors[key + "trust"] = method.T.view(1).numpy()
                tensors[key + "composition"] = method.qc.view(-1).numpy()
                tensors[key + "evidence"] = method.le.view(-1).numpy()
                print(key, "errs %.1f %%" % (100 * (answers.argmax(1) != truth).mean()), flush=True)
    write(HERE / "streams.safetensors", tensors)


main()
