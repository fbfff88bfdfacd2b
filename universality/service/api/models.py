"""Networks sent to the service: a card and a checkpoint."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Request, UploadFile
from fastapi.responses import JSONResponse, RedirectResponse, Response

from universality.base.toml import MOST_TOML_BYTES
from universality.service import models
from universality.service.principals import Principal, needs

router = APIRouter(tags=["units"])


@router.post("/models", status_code=201)
def send_model(
    request: Request,
    who: Annotated[Principal, Depends(needs("submit"))],
    card: Annotated[UploadFile, File(description="model card in TOML, with id own/NAME and source file")],
    weights: Annotated[UploadFile, File(description="its weights as safetensors")],
) -> Response:
    """Send a network: jobs can name it from then on, under the id of its card."""
    kept = models.keep(card.file.read(MOST_TOML_BYTES + 1), weights.file, request.app.state.settings.limits)
    if request.url.path.startswith("/api/"):
        answer: dict[str, Any] = {"id": kept.id}
        return JSONResponse(answer, 201)
    return RedirectResponse(f"/models/{kept.id}", 303)
