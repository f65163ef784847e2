#!/usr/bin/env python3
"""Writes the images of References/ and what Pillow and torchvision make of them. Needs Pillow, NumPy, torchvision and libjpeg-turbo's cjpeg."""
import io
import pathlib
import struct
import subprocess
import zlib
import numpy
from PIL import Image, ImageOps
from torchvision.transforms import functional

FOLDER = pathlib.Path(__file__).parent / "References"


def picture(width, height):
    """Gradients, a disc and fine stripes: smooth parts, edges and frequencies that alias."""
    y, x = numpy.mgrid[0:height, 0:width]
    disc = ((x - width / 2) ** 2 + (y - height / 2) ** 2 < (min(width, height) / 3) ** 2) * 90
    stripes = ((x // 2 + y // 3) % 2) * 60
    red = (x * 255 // max(1, width - 1) + disc) % 256
    green = (y * 255 // max(1, height - 1) + stripes) % 256
    blue = (x * y // 7 + disc + stripes) % 256
    return Image.fromarray(numpy.stack([red, green, blue], 2).astype(numpy.uint8))


def save(name, image):
    array = numpy.asarray(image)
    (FOLDER / f"{name}.bin").write_bytes(array.tobytes())


def letterbox(image, height, width, colour, corner=False, resample=Image.BILINEAR):
    """ultralytics' LetterBox (data/augment.py) with Pillow's filter: one scale for both sides, half a pixel of the bars to the right and the bottom."""
    scale = min(height / image.height, width / image.width)
    inner = image.resize((round(image.width * scale), round(image.height * scale)), resample)
    dw, dh = (width - inner.width) / 2, (height - inner.height) / 2
    framed = Image.new(image.mode, (width, height), colour)
    framed.paste(inner, (0, 0) if corner else (round(dw - 0.1), round(dh - 0.1)))
    return framed


def photograph(width, height):
    """As photographs are: octaves of noise with more in the large ones, two edges, the noise of a sensor."""
    random = numpy.random.default_rng(5)
    pixels = numpy.zeros((height, width, 3))
    for octave in (4, 8, 16, 32, 64):
        noise = random.normal(size=(max(2, height * octave // width), octave, 3))
        noise[..., 1:] = 0.6 * noise[..., 1:] + 0.4 * noise[..., :1]
        planes = [Image.fromarray(noise[..., c].astype(numpy.float32)).resize((width, height), Image.BICUBIC) for c in range(3)]
        pixels += numpy.stack([numpy.asarray(plane) for plane in planes], -1) * 140 / octave**0.7
    y, x = numpy.mgrid[0:height, 0:width]
    pixels[(x - width * 0.6) ** 2 + (y - height * 0.5) ** 2 < (height * 0.3) ** 2] += 50
    pixels[:, : width // 5] -= 40
    return Image.fromarray(numpy.clip(pixels + 115 + random.normal(0, 2, pixels.shape), 0, 255).astype(numpy.uint8))


def photographs():
    photo = photograph(320, 240)
    photo.save(FOLDER / "photo.jpg", quality=85)
    photo.save(FOLDER / "photo.444.jpg", quality=85, subsampling=0)
    photo.crop((0, 0, 161, 119)).save(FOLDER / "photo.odd.jpg", quality=85)
    photo.save(FOLDER / "photo.422.jpg", quality=85, subsampling=1, optimize=True)
    photo.save(FOLDER / "photo.progressive.jpg", quality=85, progressive=True)
    photo.convert("L").save(FOLDER / "photo.grey.jpg", quality=85)
    photo.save(FOLDER / "photo.lossy.webp", quality=80)
    bitmap = io.BytesIO()
    photo.save(bitmap, "PPM")
    for name, option in (("restart", ["-restart", "4B"]), ("440", ["-sample", "1x2"]), ("arithmetic", ["-arithmetic"])):
        with open(FOLDER / f"photo.{name}.jpg", "wb") as file:
            subprocess.run(["cjpeg", "-quality", "85", *option], input=bitmap.getvalue(), stdout=file, check=True)
    small = photo.resize((96, 72))
    exif = Image.Exif()
    small.save(FOLDER / "photo.png")
    small.save(FOLDER / "photo.webp", lossless=True)
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        path = FOLDER / f"exif{orientation}.png"
        picture(9, 7).save(path, exif=exif)
        save(f"exif{orientation}.png.upright", ImageOps.exif_transpose(Image.open(path)))


def bitmaps(image):
    image.save(FOLDER / "wide.bmp")
    image.convert("P", palette=Image.ADAPTIVE).save(FOLDER / "wide.palette.bmp")
    image.save(FOLDER / "wide.tiff")
    image.save(FOLDER / "wide.lzw.tiff", compression="tiff_lzw")
    image.save(FOLDER / "wide.deflate.tiff", compression="tiff_adobe_deflate")
    image.convert("L").save(FOLDER / "wide.grey.tiff")
    image.save(FOLDER / "pages.tiff", save_all=True, append_images=[image])
    (FOLDER / "wide.deep.png").write_bytes(deep_png(image))
    for name in ("wide.bmp", "wide.palette.bmp", "wide.tiff", "wide.lzw.tiff", "wide.deflate.tiff", "wide.grey.tiff"):
        save(f"{name}.decoded", Image.open(FOLDER / name).convert("RGB"))


def deep_png(image):
    """16 bits a channel, whose high bytes are the image."""
    pixels = numpy.asarray(image).astype(numpy.uint16) * 256 + 200
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", image.width, image.height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def main():
    FOLDER.mkdir(exist_ok=True)
    sources = {"wide": picture(61, 37), "tall": picture(23, 50), "small": picture(9, 7)}
    filters = {"nearest": Image.NEAREST, "box": Image.BOX, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC, "lanczos": Image.LANCZOS}
    for name, image in sources.items():
        image.save(FOLDER / f"{name}.png")
        for filter_name, filter_id in filters.items():
            save(f"{name}.{filter_name}.17x21", image.resize((21, 17), filter_id))
    # torchvision: Resize(shorter side), CenterCrop
    for name in ("wide", "tall"):
        resized = functional.resize(sources[name], 20)
        save(f"{name}.crop.15x15", functional.center_crop(resized, [15, 15]))
        save(f"{name}.crop.13x13", functional.center_crop(resized, [13, 13]))
        save(f"{name}.grey.12x12", functional.center_crop(functional.resize(sources[name].convert("L"), 12), [12, 12]))
    for name, image in sources.items():
        save(f"{name}.letterbox.24x33", letterbox(image, 24, 33, (114, 114, 114)))
        save(f"{name}.letterbox.corner.24x33", letterbox(image, 24, 33, (10, 20, 30), corner=True, resample=Image.BICUBIC))
        save(f"{name}.letterbox.grey.24x33", letterbox(image.convert("L"), 24, 33, 114))
    sources["wide"].save(FOLDER / "wide.jpg", quality=90)
    sources["wide"].save(FOLDER / "wide.progressive.jpg", quality=90, progressive=True)
    sources["wide"].save(FOLDER / "wide.webp", lossless=True)
    sources["wide"].save(FOLDER / "wide.lossy.webp", quality=80)
    sources["wide"].convert("L").save(FOLDER / "wide.grey.png")
    sources["wide"].convert("P", palette=Image.ADAPTIVE).save(FOLDER / "wide.palette.png")
    sources["wide"].convert("CMYK").save(FOLDER / "wide.cmyk.jpg", quality=90)
    alpha = sources["wide"].copy()
    alpha.putalpha(Image.linear_gradient("L").resize(alpha.size))
    alpha.save(FOLDER / "wide.alpha.png")
    bitmaps(sources["wide"])
    photographs()
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = FOLDER / f"exif{orientation}.jpg"
        sources["small"].save(path, quality=90, exif=exif)
        save(f"exif{orientation}.upright", ImageOps.exif_transpose(Image.open(path)))
    # The evaluation transform of torchvision's classifiers; of large pixels and as a file, for its size.
    scene = picture(28, 21).resize((353, 267), Image.NEAREST)
    scene.save(FOLDER / "scene.png", optimize=True)
    functional.center_crop(functional.resize(scene, 256), [224, 224]).save(FOLDER / "scene.224.png", optimize=True)
    for name in ("wide.cmyk.jpg", "wide.alpha.png", "wide.jpg", "wide.progressive.jpg", "wide.lossy.webp", "wide.palette.png", "wide.webp", "wide.grey.png"):
        save(f"{name}.decoded", Image.open(FOLDER / name).convert("RGB"))


if __name__ == "__main__":
    main()
