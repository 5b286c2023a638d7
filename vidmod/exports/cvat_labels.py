"""The labels of a CVAT task, as JSON for the `Raw` tab of its constructor: with them it takes what `cvat` writes.

Fields: https://docs.cvat.ai/docs/api_sdk/sdk/reference/models/patched-label-request/.
"""

from __future__ import annotations

import json

from vidmod.exports.cvat import annotations_of, labels
from vidmod.timeline import Timeline


def write(timeline: Timeline) -> bytes:
    """A list of labels."""
    rows = [
        {
            "name": name,
            "color": colour,
            "type": "rectangle",
            "attributes": [
                {
                    "name": item.name,
                    "mutable": item.is_mutable,
                    "input_type": item.input_type,
                    "default_value": item.default,
                    "values": list(item.values) or [""],
                }
                for item in attributes
            ],
        }
        for name, (colour, attributes) in labels(annotations_of(timeline)).items()
    ]
    return (json.dumps(rows, indent=2) + "\n").encode()
