from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vidmod.containment import layers

# SVT-AV1 writes to standard error what nobody asked for.
os.environ.setdefault("SVT_LOG", "0")

SHARED_MEDIA = Path(__file__).resolve().parent.parent.parent / "shared" / "media"


@pytest.fixture(scope="session")
def shared_media() -> Path:
    """A folder of real clips beside the checkout that nobody here wrote."""
    if not SHARED_MEDIA.is_dir():
        pytest.skip(f"{SHARED_MEDIA} is not there: real clips are not part of the repository")
    return SHARED_MEDIA


@pytest.fixture(scope="session")
def bf16() -> bool:
    """Whether this CPU computes in bfloat16."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture(scope="session")
def layers_here() -> dict[str, str]:
    """Every layer of containment, and whether this machine has it."""
    return layers()


@pytest.fixture
def needs(layers_here: dict[str, str]) -> Callable[..., None]:
    """Skips a test unless these layers of containment are here."""

    def skip_without(*names: str) -> None:
        for name in names:
            if layers_here[name] != "active":
                pytest.skip(f"{name} is not on this machine: {layers_here[name]}")

    return skip_without
