"""What holds for every format: any timeline can be written in it, again and again the same; and the command line."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.drawn import timelines
from vidmod import export
from vidmod.exports import FORMATS

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
@settings(deadline=None, max_examples=40, suppress_health_check=SLOW)
def test_any_timeline_can_be_exported(name: str, data: st.DataObject) -> None:
    timeline = data.draw(timelines())
    first = export(timeline, name)
    assert first
    assert export(timeline, name) == first
