"""The one page that is shown to somebody without a token."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from universality.service.pages.rendering import page

router = APIRouter()


@router.get("/login")
def login(request: Request, next: str = "/") -> HTMLResponse:
    """Ask for a token."""
    inside = next if next.startswith("/") and not next.startswith(("//", "/\\")) else "/"
    return page(request, "login.html", next=inside)
