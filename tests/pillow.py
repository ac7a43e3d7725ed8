"""Prepares an image as the networks' authors do, with Pillow: resize the shorter side, cut the centre, fit.

    python pillow.py IN.png RESIZE CROP SIDE > pixels.raw      (RESIZE or CROP 0: not done)

`tests/src/pillow.rs` holds the compiler's preprocessing against it, and against numbers that it once gave.
"""

import sys

from PIL import Image


def prepared(path, resize, crop, side):
    image = Image.open(path).convert("RGB")
    if resize:
        short, long = sorted(image.size)
        other = resize * long // short
        size = (resize, other) if image.width <= image.height else (other, resize)
        image = image.resize(size, Image.Resampling.BILINEAR)
    if crop:
        left, top = (image.width - crop) // 2, (image.height - crop) // 2
        image = image.crop((left, top, left + crop, top + crop))
    return image.resize((side, side), Image.Resampling.BILINEAR)


if __name__ == "__main__":
    sys.stdout.buffer.write(prepared(sys.argv[1], *map(int, sys.argv[2:5])).tobytes())
