"""Pictures to upload and to compare."""

import io
import os

from PIL import Image, ImageChops, ImageOps


def picture(size=(40, 30)):
    """A PNG that no other test sends."""
    image = Image.new("RGB", size, tuple(os.urandom(3)))
    image.putpixel((3, 4), (255, 255, 255))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def pixels(data):
    return Image.open(io.BytesIO(data)).convert("RGB")


def is_inverse(data, of):
    left, right = pixels(data), ImageOps.invert(pixels(of))
    # ComfyUI counts with floats: a value may be one off.
    return left.size == right.size and all(high <= 1 for _, high in ImageChops.difference(left, right).getextrema())
