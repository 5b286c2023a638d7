"""Pictures made ready for the networks on an NVIDIA GPU, with the arithmetic of the CPU path.

What a hardware decoder leaves in the GPU's memory (NV12, P010, P016) is scaled, converted to RGB, turned, cropped and
put through JPEG there, as a manifest's steps say; see :mod:`vidmod.models.preprocessing` for the same on the CPU.

- `filters`, `colours`, `jpeg`: the numbers: weights, colour coefficients, quantisation tables.
- `scaling`: what one size of picture needs to become one size of image.
- `kernels.cu`: the kernels, CUDA C++ without headers, compiled at run time by NVRTC.
- `twin`: the same kernels in NumPy; tests hold them to the CPU path and `kernels.cu` to them.
- `launching`: which kernels to launch, with which arguments.

The twin equals the CPU path pixel for pixel where that runs on x86 (swscale's arithmetic is another on other machines,
and there the two are near each other), with two exceptions: where swscale itself overflows or reads past the end of a
plane, and from scaling down by 60 on, which it may do in two steps.

Nobody has run this on a GPU yet. What is checked is that the kernels compile for GPUs, and that the very same source,
compiled for the CPU, gives exactly what the twin gives.
"""
