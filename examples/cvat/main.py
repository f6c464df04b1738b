"""A serverless function for CVAT's automatic annotation: it answers a picture with a mask (see function.yaml)."""

import base64
import json
import os
from typing import Any

from redoseg import Segmenter
from redoseg.errors import DataError
from redoseg.images.objects import objects_of
from redoseg.inference.given import as_photo
from redoseg.inference.object_mask import cleaned, object_of

LABEL = "object"  # as in function.yaml; CVAT maps it to a label of the task


def init_context(context: Any) -> None:
    context.user_data.segmenter = Segmenter(os.environ.get("REDOSEG_MODEL", "flowers"))


def handler(context: Any, event: Any) -> Any:
    body = event.body if isinstance(event.body, dict) else json.loads(event.body)
    try:
        photo = as_photo(base64.b64decode(body["image"]))
    except (DataError, KeyError, ValueError) as error:
        return answer(context, {"error": str(error)}, 400)
    soft, confidence = context.user_data.segmenter.soft_mask(photo)
    if confidence < float(body.get("threshold") or 0):
        return answer(context, [])
    found = []
    for one in objects_of(object_of(photo, cleaned(photo, soft))):
        left, top, width, height = one.box
        # the pixels within the box row by row, then the box with its last column and row
        mask = [*one.mask.ravel().astype(int).tolist(), left, top, left + width - 1, top + height - 1]
        points = one.polygons()[0].outer.ravel().tolist()
        found.append(
            {"confidence": f"{confidence:.4f}", "label": LABEL, "type": "mask", "points": points, "mask": mask}
        )
    return answer(context, found)


def answer(context: Any, value: Any, status: int = 200) -> Any:
    return context.Response(body=json.dumps(value), headers={}, content_type="application/json", status_code=status)
