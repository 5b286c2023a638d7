"""NVIDIA's libraries as tests need them: fakes that are stricter than a GPU, and no faster."""
