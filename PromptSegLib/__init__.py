"""PromptSeg: class tokens for a frozen, prompt-able UNet. Importing this package does not import torch."""

__version__ = "0.1.0"
