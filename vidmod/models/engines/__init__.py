"""Engines: networks that TensorRT has compiled for one GPU, built once and kept.

`find_plan` and the cache import neither TensorRT nor `onnx`; :mod:`vidmod.models.engines.building` does.
"""

from vidmod.models.engines.cache import Cache, Entry
from vidmod.models.engines.finding import find_plan, key_of
from vidmod.models.engines.key import Gpu, NetworkKey, PlanKey, TimingKey

__all__ = ["Cache", "Entry", "Gpu", "NetworkKey", "PlanKey", "TimingKey", "find_plan", "key_of"]
