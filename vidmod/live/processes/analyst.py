"""The process that looks: holds the models, and says what they see."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vidmod.describing import model_json
from vidmod.live.messages import AnalystSettings, Beat, Found, Loaded, Look, Seen, ToAnalyst
from vidmod.live.processes.station import BEAT_SECONDS, Station
from vidmod.models import Geometry, Model, ModelInput, find

LOOKS = "looks"
KINDS = {LOOKS: ToAnalyst}


def run(station: Station[AnalystSettings], settings: AnalystSettings) -> None:
    """Look until the process that watches has gone."""
    station.beat(Beat("loading"))
    weights = {name: Path(path) for name, path in settings.weights.items()}
    models = [
        Model.load(
            manifest,
            runtime=settings.runtime,
            device=settings.device,
            precision=settings.precision,
            weights=weights,
            batch=manifest.batch.min,
        )
        for manifest in map(find, settings.models)
    ]
    station.tell(Loaded([model_json(model) for model in models]))
    beat = Beat("looking")
    while True:
        for _, message in station.poll(BEAT_SECONDS):
            if isinstance(message, Look):
                station.send(LOOKS, _seen(models, message))
                beat.packets += 1
            station.beat(beat)
        station.beat(beat)


def _seen(models: list[Model], look: Look) -> Seen:
    scores: list[tuple[str, dict[str, float]]] = []
    found: list[Found] = []
    for model, item in zip(models, look.inputs, strict=True):
        shape = model.manifest.preparation
        image = np.frombuffer(item.pixels, np.uint8).reshape(shape.height, shape.width, 3)
        (predictions,) = model.predict([ModelInput(image, Geometry(item.factors, item.size))])
        scores += [(row.model, dict(row.labels)) for row in predictions.scores]
        found += [Found(row.model, row.label, row.score, row.box) for row in predictions.detections]
    return Seen(look.pts, scores, found)
