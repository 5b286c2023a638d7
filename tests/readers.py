"""Asks other people's readers, which live in an environment of their own (`tests/readers.txt`).

`VIDMOD_READERS` names its Python; `.ci/run` makes it. Without it, what needs them is skipped.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PYTHON = os.environ.get("VIDMOD_READERS", "")
WHY_NOT = "VIDMOD_READERS names no Python with what tests/readers.txt lists"


def ask(what: str, **values: Any) -> Any:
    """What the readers say; see the functions below.

    Raises:
        RuntimeError: They failed.
    """
    process = _started()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"what": what, **values}) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["said"]


@functools.cache
def _started() -> subprocess.Popen[str]:
    return subprocess.Popen([PYTHON, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


# In the other environment ---------------------------------------------------------------------------------------------


def datumaro_tracks(folder: str) -> list[Any]:
    """Every box of a CVAT task as Datumaro reads it: frame, track, label, corners, attributes."""
    from datumaro import AnnotationType, Dataset

    dataset = Dataset.import_from(folder, "cvat")
    names = [item.name for item in dataset.categories()[AnnotationType.label]]
    return [
        (item.attributes["frame"], row.attributes["track_id"], names[row.label], list(row.points), row.attributes)
        for item in dataset
        for row in item.annotations
    ]


def datumaro_rewritten(folder: str, output: str) -> str:
    """The XML that Datumaro writes of what it read."""
    from datumaro import Dataset

    Dataset.import_from(folder, "cvat").export(output, "cvat", use_track=True)
    return next(Path(output).glob("*.xml")).read_text("utf-8")


def cvat_labels(rows: list[Any]) -> list[str]:
    """The names of labels as CVAT's client takes them."""
    from cvat_sdk import models

    names = []
    for row in rows:
        attributes = [
            models.AttributeRequest(**{**item, "input_type": models.InputTypeEnum(item["input_type"])})
            for item in row.pop("attributes")
        ]
        names.append(models.PatchedLabelRequest(**row, attributes=attributes).to_dict()["name"])
    return names


def labelstudio_errors(config: str, task: dict[str, Any]) -> list[str]:
    """What Label Studio's validator has against a task and its configuration."""
    from label_studio_sdk.label_interface.interface import (
        LabelInterface,
    )

    interface: Any = LabelInterface(config)
    interface.validate()
    # The validator of a task calls that of its predictions without one.
    (prediction,) = task.pop("predictions")
    errors: list[str] = interface.validate_prediction(prediction, return_errors=True)
    if not interface.validate_task(task):
        errors.append("the task is refused")
    if interface.validate_annotation({"result": prediction["result"]}) != (not errors):
        errors.append("it says otherwise of the same result as an annotation")
    return errors


def serve() -> None:
    """Answer one question a line."""
    answers = sys.stdout
    known = {item.__name__: item for item in (datumaro_tracks, datumaro_rewritten, cvat_labels, labelstudio_errors)}
    for line in sys.stdin:
        question = json.loads(line)
        # What libraries print is no answer.
        with contextlib.redirect_stdout(sys.stderr):
            try:
                answer = {"said": known[question.pop("what")](**question)}
            except Exception as exc:  # noqa: BLE001 # whatever it is, the test is told
                answer = {"error": f"{type(exc).__name__}: {exc}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
