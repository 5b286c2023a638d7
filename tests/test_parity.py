"""vidmod's models give what the peers' own code gives, on real video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.references import NudeNetReference, OpenNsfwReference
from vidmod.media.frame import Frame
from vidmod.media.reader import Reader
from vidmod.media.source import probe
from vidmod.models import Model, find
from vidmod.models.check import iou
from vidmod.models.preprocessing import prepare
from vidmod.models.weights import obtain

EVERY = 12
BOUNDS = {"fp32": (0.010, 0.08), "bf16": (0.012, 0.10)}


def frames_of(shared_media: Path) -> Iterator[Frame]:
    for path in sorted(shared_media.glob("*/*.*")):
        if path.name == "README.md":
            continue
        for track in probe(path).tracks:
            with Reader(path, track) as reader:
                for number, frame in enumerate(reader.frames()):
                    if number % EVERY == 0:
                        yield frame


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_scores_and_boxes_match_the_references(shared_media: Path, bf16: bool) -> None:
    precisions = ("fp32", "bf16") if bf16 else ("fp32",)
    open_nsfw = OpenNsfwReference(obtain(find("open_nsfw")).path)
    nudenet = NudeNetReference()
    classifiers = {name: Model.load(find("open_nsfw"), runtime="openvino", precision=name) for name in precisions}
    detector = Model.load(find("nudenet"), runtime="openvino", precision="fp32")
    differences: dict[str, list[float]] = {name: [] for name in precisions}
    wanted = matched = 0
    for frame in frames_of(shared_media):
        rgb = frame.image(*frame.size, "rgb", "bicubic")
        score = open_nsfw.score(rgb)
        prepared = prepare(frame, classifiers["fp32"].manifest.preparation)
        for name, model in classifiers.items():
            found = model.predict([prepared])[0].scores[0].labels["nsfw"]
            differences[name].append(abs(found - score))
        detections = detector.predict([prepare(frame, detector.manifest.preparation)])[0].detections
        for label, sure, box in nudenet.detect(rgb):
            if sure >= 0.5:
                wanted += 1
                matched += any(item.label == label and iou(item.box, box) >= 0.8 for item in detections)
    for name, (mean, tail) in BOUNDS.items():
        if name in differences:
            print(name, len(differences[name]), np.mean(differences[name]), np.percentile(differences[name], 99))
            assert np.mean(differences[name]) <= mean
            assert np.percentile(differences[name], 99) <= tail
    print("detections", matched, wanted)
    assert wanted >= 30
    assert matched >= 0.98 * wanted
