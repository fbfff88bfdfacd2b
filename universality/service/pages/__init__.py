"""The pages: one router that `app.create_app` mounts at the root."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
