"""The preview as the slice views and the 3-D view draw it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from PromptSegLib.engine.messages import Preview


@pytest.fixture
def scene(slicer_app: Any) -> Iterator[Any]:
    """The scene of the application, whose views draw."""
    import slicer

    slicer.mrmlScene.Clear()
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear()


def test_views_draw_every_change(scene: Any) -> None:
    from PromptSegLib.mrml.preview import PreviewNode
    from Testing.mrml.builders import add_segmentation, add_volume, ellipsoid
    from Testing.mrml.test_applying import result
    from Testing.slicer_harness.driving import jump, picture, process_events, show_in_slice_views

    shape = (30, 40, 40)
    volume = add_volume(np.zeros(shape, np.int16), np.diag([2.0, 2.0, 3.0, 1.0]))
    segmentation = add_segmentation(volume, "organ", "bone")
    segmentation.GetSegmentation().GetSegment("organ").SetColor(1.0, 0.0, 0.0)
    preview = PreviewNode(segmentation, volume)
    show_in_slice_views(volume)
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    jump([(low + high) / 2 for low, high in zip(bounds[::2], bounds[1::2], strict=True)])

    def red_pixels(view: str = "Red") -> int:
        process_events()
        red, green, blue = np.moveaxis(picture(view).astype(int), -1, 0)
        return int(np.count_nonzero((red > 60) & (red > 2 * green) & (red > 2 * blue)))

    large, small = ellipsoid(shape, radius=0.35), ellipsoid(shape, radius=0.15)
    empty, without_surface = red_pixels(), red_pixels("3D")
    assert empty == 0

    preview.update(Preview("organ", 0, {index: large[index] for index in range(12, 18)}))
    first = red_pixels()
    preview.update(Preview("organ", 0, {index: small[index] for index in range(12, 18)}))
    second = red_pixels()
    assert 0 < second < 0.5 * first
    assert red_pixels("Yellow") > 0

    preview.show([result("organ", large)])
    assert red_pixels() == pytest.approx(first, rel=0.02)
    assert red_pixels("3D") == without_surface
    preview.show_3d = True
    assert red_pixels("3D") > without_surface + 500

    preview.opacity = 0.3
    assert red_pixels() < first
    preview.opacity = 1.0
    preview.visible = False
    assert red_pixels() == 0
    preview.visible = True
    assert red_pixels() == pytest.approx(first, rel=0.02)
    preview.clear()
    assert red_pixels() == 0
    preview.remove()
