from __future__ import annotations

import os
from pathlib import Path

import pytest

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
