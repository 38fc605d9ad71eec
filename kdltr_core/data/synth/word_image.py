"""One word as a picture: letters set into a ground, seen a little from the side, photographed none too well."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT_SIZE = 48  # pixels an em: capitals are about 35 pixels high before the word is set into its picture

Floats = np.ndarray  # float32
Pixels = np.ndarray  # uint8


def draw_picture(text: str, font: ImageFont.FreeTypeFont, rng: np.random.Generator) -> Pixels:
    """A word crop as a camera would bring it home: (H, W, 3) uint8, H from 32 to 64, W at the word's natural aspect."""
    spacing = int(rng.choice((0, 0, 0, 2, 4, 8)))
    outlined = rng.random() < 0.12
    fill, stroke = _lettering(text, font, spacing, 3 if outlined else 0)
    if rng.random() < 0.2:
        fill, stroke = _bent((fill, stroke), rng.uniform(-0.8, 0.8))
    height = int(rng.integers(32, 65))
    matrix, width = _placement(fill.shape, height, rng)

    ground_colour, ink, trim = _colours(rng)
    picture = _ground(height, width, ground_colour, rng)
    if rng.random() < 0.25:
        _add_clutter(picture, ink, rng)
    if rng.random() < 0.15:  # a shadow under the letters
        offset = np.array([[1, 0, height * rng.uniform(-0.06, 0.06)], [0, 1, height * 0.05], [0, 0, 1]])
        picture *= 1 - 0.5 * _warped(fill, offset @ matrix, height, width)
    if outlined:
        mask = _warped(stroke, matrix, height, width)
        picture += mask * (trim - picture)
    mask = _warped(fill, matrix, height, width)
    picture += mask * (ink - picture)
    return _photographed(picture, rng)


def _lettering(text: str, font: ImageFont.FreeTypeFont, spacing: int, stroke_width: int) -> tuple[Pixels, Pixels]:
    """The letters, and the letters with their outline: two masks (h, w) uint8, cut to the outline's box."""
    lengths = [font.getlength(character) + spacing for character in text]
    pad = stroke_width + FONT_SIZE // 2
    size = (int(sum(lengths)) + 2 * pad, 2 * FONT_SIZE + 2 * pad)

    def drawn(width: int) -> Pixels:
        image = Image.new("L", size)
        draw = ImageDraw.Draw(image)
        if spacing == 0:
            draw.text((pad, pad), text, fill=255, font=font, stroke_width=width)
        else:
            left = float(pad)
            for character, length in zip(text, lengths, strict=True):
                draw.text((left, pad), character, fill=255, font=font, stroke_width=width)
                left += length
        return np.asarray(image)

    fill = drawn(0)
    stroke = drawn(stroke_width) if stroke_width else fill
    rows, columns = np.flatnonzero(stroke.any(1)), np.flatnonzero(stroke.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return fill[box], stroke[box]


def _bent(masks: tuple[Pixels, Pixels], sag: float) -> tuple[Pixels, Pixels]:
    """The letters along an arc whose middle lies ``sag`` letter heights below (or above) its ends."""
    h, w = masks[0].shape
    arc = (np.linspace(-1, 1, w, dtype=np.float32) ** 2 - 1) * sag * h * min(1.0, w / (4 * h))
    rows = np.arange(h + int(np.ptp(arc)), dtype=np.float32)[:, None] + arc.min() * (sag > 0)
    columns = np.broadcast_to(np.arange(w, dtype=np.float32), (len(rows), w))
    fill, stroke = (cv2.remap(mask, columns, rows - arc, cv2.INTER_LINEAR) for mask in masks)
    return fill, stroke


def _placement(shape: tuple[int, ...], height: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """A light rotation, shear and perspective that sets the letters into a crop.

    Returns: the 3x3 matrix from the letters' pixels to the crop's, and the crop's width.
    """
    h, w = shape
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], dtype=np.float64)
    angle = np.deg2rad(np.clip(rng.normal(0, 5), -14, 14)) * min(1.0, 4 * h / w)  # long words are cut out level
    shear = np.clip(rng.normal(0, 0.12), -0.35, 0.35)
    turned = corners @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle) - shear, np.cos(angle)]])
    turned += rng.uniform(-0.1, 0.1, size=(4, 2)) * h
    turned -= turned.min(0)
    loose = 1 + 4 * rng.random() ** 2
    margins = rng.uniform((0.02, 0.02, 0.02, 0.02), (0.3, 0.2, 0.3, 0.2)) * h * loose  # left, top, right, bottom
    box = turned.max(0) + margins[:2] + margins[2:]
    stretch = rng.uniform(0.8, 1.15)
    scale = height / box[1]
    placed = (turned + margins[:2]) * (scale * stretch, scale)
    width = max(height // 2, round(box[0] * scale * stretch))
    return cv2.getPerspectiveTransform(corners.astype(np.float32), placed.astype(np.float32)), width


def _warped(mask: Pixels, matrix: np.ndarray, height: int, width: int) -> Floats:
    """The mask in the crop: (H, W, 1) in [0, 1]."""
    warped = cv2.warpPerspective(mask, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return (warped.astype(np.float32) / 255)[..., None]


def _colours(rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Colours of the ground, of the letters and of their outline, (3,) each; letters stand out in brightness."""
    contrast = 36 + 180 * rng.random() ** 1.3
    low = rng.uniform(0, 255 - contrast)
    dark, light = _colour(low, rng), _colour(low + contrast, rng)
    ground, ink = (light, dark) if rng.random() < 0.55 else (dark, light)
    return ground, ink, 0.8 * ground + 0.2 * (255 - ink)


def _colour(brightness: float, rng: np.random.Generator) -> Floats:
    """A colour of about this brightness (0 to 255), grey or tinted."""
    tint = rng.normal(0, 35 if rng.random() < 0.65 else 5, size=3)
    tint -= tint @ (0.299, 0.587, 0.114)
    return np.clip(brightness + tint, 0, 255).astype(np.float32)


def _ground(height: int, width: int, colour: Floats, rng: np.random.Generator) -> Floats:
    """What the word is written on: plain, shaded, blotched or streaked, sometimes with the edge of its board."""
    ground = np.broadcast_to(colour, (height, width, 3)).copy()
    kind = rng.integers(4)
    if kind == 1:
        across, down = rng.uniform(-35, 35, size=2)
        ground += (np.linspace(-0.5, 0.5, width) * across)[None, :, None].astype(np.float32)
        ground += (np.linspace(-0.5, 0.5, height) * down)[:, None, None].astype(np.float32)
    elif kind >= 2:
        cells = (int(rng.integers(2, 6)), int(rng.integers(3, 12))) if kind == 2 else (int(rng.integers(8, 20)), 2)
        blotches = rng.normal(0, rng.uniform(4, 18), size=(*cells, 3)).astype(np.float32)
        ground += cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.15:
        edge = int(rng.integers(1, max(2, height // 12)))
        rows = np.s_[:edge] if rng.random() < 0.5 else np.s_[-edge:]
        ground[rows] += float(rng.choice((-60, 60)))
    return ground


def _add_clutter(picture: Floats, ink: Floats, rng: np.random.Generator) -> None:
    """Rules, cables and edges behind the letters, in something between the ground's colour and theirs."""
    height, width, _ = picture.shape
    for _ in range(rng.integers(1, 4)):
        at = rng.uniform(0, height, size=2) if rng.random() < 0.6 else rng.uniform(-2 * height, 3 * height, size=2)
        colour = picture[0, 0] + rng.uniform(0.2, 0.6) * (ink - picture[0, 0])
        start, end = (0, int(at[0])), (width, int(at[1]))
        cv2.line(picture, start, end, colour.tolist(), int(rng.integers(1, 4)), cv2.LINE_AA)


def _photographed(picture: Floats, rng: np.random.Generator) -> Pixels:
    """Uneven light, a lens, a sensor, and often a JPEG file."""
    height, width, _ = picture.shape
    light = np.linspace(1, rng.uniform(0.75, 1.25), width, dtype=np.float32)
    picture = picture * light[None, :, None]
    if rng.random() < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 2.4) * height / 48)
    grain = 28 * rng.random() ** 2
    picture = picture + grain * rng.standard_normal(picture.shape, dtype=np.float32)
    pixels = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))])
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
        assert decoded is not None
        return decoded
    return pixels
