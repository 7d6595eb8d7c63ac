"""Which weights are trained: each function takes a frozen copy of a backbone, adds to it what is its own, if anything,
and returns what is to be trained. None of them changes what the backbone does before the first step."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from PromptSegLib.networks.attention import PromptAttentionLayer, ShiftedWindowBlock
from PromptSegLib.networks.backbone import BackboneModule

Free = Callable[[BackboneModule], list[nn.Parameter]]

ADAPTER_CHANNELS = 16
LORA_RANK = 4


def everything(net: BackboneModule) -> list[nn.Parameter]:
    return list(net.parameters())


def decoder(net: BackboneModule) -> list[nn.Parameter]:
    return list(net.get_submodule("decoder").parameters())


def biases(net: BackboneModule) -> list[nn.Parameter]:
    """BitFit (arXiv 2106.10199): of convolutions, linear layers and all norms, those of the attention among them."""
    return [parameter for name, parameter in net.named_parameters() if name.endswith(".bias")]


def adapters(net: BackboneModule) -> list[nn.Parameter]:
    """A bottleneck after each attention block of a PUNet (arXiv 1902.00751)."""
    added: list[nn.Parameter] = []
    for block in [module for module in net.modules() if isinstance(module, ShiftedWindowBlock)]:
        (channels,) = block.layers[0].norm.normalized_shape
        adapter = _Adapter(channels).to(net.device)
        block.add_module("adapter", adapter)
        block.register_forward_hook(lambda _, inputs, result, adapter=adapter: result + adapter(result))
        added += adapter.parameters()
    return added


def low_rank(net: BackboneModule) -> list[nn.Parameter]:
    """LoRA (arXiv 2106.09685): a product of two thin matrices is added to each projection of a PUNet's attention."""
    added: list[nn.Parameter] = []
    for layer in [module for module in net.modules() if isinstance(module, PromptAttentionLayer)]:
        for projection in (layer.qkv, layer.out):
            update = _LowRank(*projection.weight.shape).to(net.device)
            parametrize.register_parametrization(projection, "weight", update)
            added += update.parameters()
    return added


class _Adapter(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.down, self.up = nn.Linear(channels, ADAPTER_CHANNELS), nn.Linear(ADAPTER_CHANNELS, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(M, C, *spatial) -> same, zero at first."""
        result: Tensor = self.up(F.gelu(self.down(x.movedim(1, -1))))
        return result.movedim(-1, 1)


class _LowRank(nn.Module):
    def __init__(self, rows: int, columns: int):
        super().__init__()
        self.left = nn.Parameter(torch.zeros(rows, LORA_RANK))
        self.right = nn.Parameter(torch.randn(LORA_RANK, columns) / columns**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.left @ self.right
