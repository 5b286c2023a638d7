"""NVIDIA GPUs: the driver, and the kernels that vidmod runs there."""
