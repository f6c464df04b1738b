"""A backend for Label Studio: it answers a task with a brush mask.

    pip install "redoseg[api]"
    export LABEL_STUDIO_URL=http://localhost:8080 LABEL_STUDIO_API_KEY=...   # to fetch the pictures of the tasks
    uvicorn --app-dir examples/label_studio backend:app --port 9090

Then add http://localhost:9090 as a model in the project's settings. Its labelling interface needs an <Image> and
<BrushLabels>. REDOSEG_MODEL chooses another model than flowers. The key is a legacy token, which Label Studio allows
if its first start had LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true, or by the organization's settings. It refuses a
backend on a private address, as on its own machine, unless it was started with ML_BLOCK_LOCAL_IP=false
SSRF_PROTECTION_ENABLED=false: keep such a server from others.
"""

import os
import xml.etree.ElementTree as ElementTree
from functools import cache
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

from fastapi import FastAPI, HTTPException

from redoseg import Segmenter
from redoseg.errors import DataError
from redoseg.images.labels import labelstudio
from redoseg.images.objects import Described, objects_of
from redoseg.inference.given import as_photo
from redoseg.inference.object_mask import cleaned, object_of

app = FastAPI()


@cache
def segmenter() -> Segmenter:
    return Segmenter(os.environ.get("REDOSEG_MODEL", "flowers"))


@app.get("/")
@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "UP", "model_class": "redoseg"}


@app.post("/setup")
def setup(_: dict[str, Any]) -> dict[str, str]:
    return {"model_version": segmenter().name}


@app.post("/webhook", status_code=201)
def webhook(_: dict[str, Any]) -> dict[str, str]:
    return {}  # it learns nothing from corrections; `redoseg refine --corrected` does


@app.post("/predict")
def predict(request: dict[str, Any]) -> dict[str, Any]:
    interface = ElementTree.fromstring(request["label_config"])
    brush, image = interface.find(".//BrushLabels"), interface.find(".//Image")
    if brush is None or image is None or (label := brush.find("Label")) is None:
        raise HTTPException(422, "The labelling interface needs an <Image>, and <BrushLabels> with a <Label>.")
    field = image.attrib["value"].removeprefix("$")
    found = []
    for task in request["tasks"]:
        try:
            photo = as_photo(fetched(task["data"][field]))
        except (DataError, OSError, KeyError) as error:
            raise HTTPException(422, f"The picture of task {task.get('id')} cannot be used: {error}") from None
        soft, confidence = segmenter().soft_mask(photo)
        objects = objects_of(object_of(photo, cleaned(photo, soft)))
        seen = Described("", photo.size, tuple(objects), label.attrib["value"], segmenter().name, confidence)
        prediction = labelstudio.entry(seen).data["predictions"][0]
        for result in prediction["result"]:
            result |= {"from_name": brush.attrib["name"], "to_name": brush.attrib["toName"]}
        found.append(prediction)
    return {"results": found, "model_version": segmenter().name}


def fetched(address: str) -> bytes:
    """A picture by its address, which may begin at Label Studio's own; only that gets the token."""
    home = os.environ.get("LABEL_STUDIO_URL", "http://localhost:8080")
    whole = urljoin(home, address)
    if urlsplit(whole).scheme not in ("http", "https"):
        raise OSError(f"{whole[:80]} has no http address; import the picture into Label Studio")
    own = urlsplit(whole)[:2] == urlsplit(home)[:2]
    headers = {"Authorization": f"Token {os.environ.get('LABEL_STUDIO_API_KEY', '')}"} if own else {}
    with urlopen(Request(whole, headers=headers), timeout=60) as answer:
        return bytes(answer.read())
