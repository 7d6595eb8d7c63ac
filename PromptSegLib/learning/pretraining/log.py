"""What TensorBoard shows of a run: losses, rates, throughput, and what the network finds alike."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from PromptSegLib.errors import InputError
from PromptSegLib.learning.pretraining.trainer import Progress
from PromptSegLib.learning.pretraining.views import ViewBatch, ViewSampler
from PromptSegLib.networks.backbone import BackboneModule

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_PICTURES = 20
"""In a run, beside the one after its last step."""
_PLACES = 4


def require_tensorboard() -> None:
    """InputError unless a `Log` can be written."""
    if find_spec("tensorboard") is None:
        raise InputError("TensorBoard is not installed: install promptseg[pretrain], or leave out --log")


class Log:
    """Writes to ``folder`` what TensorBoard reads; a run that goes on goes on there, too.

    sampler: of the views whose similarity maps are shown, of the same few places all along.
    """

    def __init__(self, folder: Path, sampler: ViewSampler):
        self.folder = folder
        self.writer: SummaryWriter | None = None
        self.views = sampler.draw(np.random.default_rng(0), _PLACES)

    def write(self, progress: Progress, network: BackboneModule) -> None:
        """After a step, and now and then its picture."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What a killed run wrote after its last checkpoint comes again.
            self.writer = SummaryWriter(str(self.folder), purge_step=progress.step)
        scalars = {
            **{f"loss/{name}": loss for name, loss in progress.losses.items()},
            **{f"rate/{name}": rate for name, rate in progress.rates.items()},
            "samples per second": progress.samples / progress.seconds,
        }
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, progress.step)
        if progress.step % max(1, progress.steps // _PICTURES) == 0 or progress.step == progress.steps:
            self.writer.add_image("alike", similarity_picture(network, self.views), progress.step)
            self.writer.flush()


def similarity_picture(network: BackboneModule, views: ViewBatch) -> Tensor:
    """Of each sample a row of four pictures: the large student view with a cross on its center, the same with what is
    like that point in red, and both of the teacher's view, where the point is somewhere else. (3, rows, columns) in
    [0, 1]; of blocks, the middle slices.
    """
    both = (views.students[0].images, views.teacher.images)
    training = network.training
    network.eval()
    with torch.no_grad():
        embeddings = [F.normalize(network.decode(network.encode(v.to(network.device))).float(), dim=1) for v in both]
    network.train(training)
    shape = tuple(embeddings[0].shape[2:])
    center = int(np.ravel_multi_index([n // 2 for n in shape], shape))
    point = embeddings[0].flatten(2)[:, :, center]
    size = both[0].shape[2:4]
    columns = []
    for images, embedding in zip(both, embeddings, strict=True):
        alike = torch.einsum("bc,bc...->b...", point, embedding).clamp_min(0).cpu()[:, None]
        gray, red = (_plane(part, size) for part in ((images.clamp(-1, 1) + 1) / 2, alike))
        columns += [gray.expand(-1, 3, -1, -1), torch.cat([gray + (1 - gray) * red, *[gray * (1 - red)] * 2], dim=1)]
    row, column = (n // 2 for n in size)
    marked = columns[0] = columns[0].clone()
    for area in (marked[:, :, row, column - 4 : column + 5], marked[:, :, row - 4 : row + 5, column]):
        area[:] = torch.tensor([1.0, 1.0, 0.0])[:, None]
    return torch.cat([torch.cat(list(column), dim=1) for column in columns], dim=2)


def _plane(images: Tensor, size: torch.Size) -> Tensor:
    """(B, 1, rows, columns) of images or blocks (B, 1, ...)."""
    plane = images if images.dim() == 4 else images[..., images.shape[-1] // 2]
    return F.interpolate(plane, size=size, mode="bilinear", align_corners=False)
