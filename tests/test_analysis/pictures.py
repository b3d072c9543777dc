"""Whether a file is a picture with something in it."""

from PIL import Image


def is_picture(path):
    """A PNG file of some size and more than a hundred colours."""
    with Image.open(path) as image:
        colours = image.convert('RGB').getcolors(2**20)
        return image.format == 'PNG' and min(image.size) > 400 and len(colours) > 100
