"""The HTTP API, version 1: the same addresses as the pages, below ``/api/v1``."""

from __future__ import annotations

from fastapi import APIRouter

from universality.service.api import browse, jobs, models

router = APIRouter(prefix="/api/v1")
router.include_router(jobs.router)
router.include_router(models.router)
router.include_router(browse.router)
