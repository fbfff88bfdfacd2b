"""How refusals are answered: JSON for scripts, a page for browsers."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse, Response


def refused(request: Request, cause: Exception) -> Response:
    """Return the answer to a request that a user can mend: its sentence, with status 400."""
    return JSONResponse({"error": str(cause)}, 400)
