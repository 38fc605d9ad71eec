"""The model that MLflow serves, as MLflow loads it from this file: bytes of images in, text and confidences out."""

from __future__ import annotations

import base64
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from pipelines.prediction.open_reader import open_reader


class ServedStudent(PythonModel):
    """Reads the word in each image with a student or its exported graph. Its environment needs this software."""

    def load_context(self, context: PythonModelContext) -> None:
        self._reader = open_reader(context.artifacts["student"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Args: model_input: the column "image", encoded files such as PNG or JPEG.

        Returns: the columns "text", "confidence" (of the whole word) and "character_confidences".
        Raises: UnreadableImage, which the server answers with 400.
        """
        words = self._reader([_decoded(bytes(image)) for image in model_input["image"]])
        columns = ("text", "confidence", "character_confidences")
        return pd.DataFrame([[w.text, w.confidence, list(w.character_confidences)] for w in words], columns=columns)


def _decoded(image: bytes) -> bytes:
    """MLflow decodes base64 in dataframes, and not in "inputs"; no image file is base64 itself."""
    try:
        return base64.b64decode(image, validate=True)
    except ValueError:
        return image


set_model(ServedStudent())
