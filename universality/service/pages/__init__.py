"""The pages: one router that `app.create_app` mounts at the root."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from universality.base.errors import RunError
from universality.service.pages import comparing, home, jobs, lists, login, runs, units, zoo
from universality.service.pages.rendering import ASSETS, asset, error_page
from universality.service.principals import needs

__all__ = ["error_page", "router"]

router = APIRouter(include_in_schema=False)
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}


@router.get("/assets/{digest}/{name}")
def assets(digest: str, name: str) -> Response:
    """Return a style sheet or script; the address names its content, so browsers keep it."""
    if name not in ASSETS or asset(name)[1] != digest:
        raise RunError(f"there is no file '{name[:50]}' of this version; load the page again")
    return Response(
        asset(name)[0],
        media_type=_TYPES[name.rsplit(".", 1)[1]],
        headers={"cache-control": "public, max-age=31536000, immutable"},
    )


router.include_router(login.router)
for _part in (home, zoo, runs, units, comparing, jobs, lists):
    router.include_router(_part.router, dependencies=[Depends(needs("read"))])
