"""Low-bit speech recognition for small boards: quantize, export, prove, gate."""

__version__ = "0.1.0"
