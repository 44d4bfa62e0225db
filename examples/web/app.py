"""A web application that hands work to a queue, and says 503 when the queue is full: load stops where it comes from.

    POST /reports?kind=yearly    202 with the message's id; or 503 with Retry-After

`Busy.retry_after` is when the broker expects room, so that who sends the request need not guess. The publish itself
tries for `PATIENCE_S` before that, which a short peak never gets past.

It needs Starlette and an ASGI server, such as uvicorn:

    uvicorn --app-dir examples/web app:app
    python examples/web/worker.py
"""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

import wherry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

PATIENCE_S = 0.5


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
    """One connection for the whole application: publishes of requests at the same time travel together."""
    async with wherry.connect(os.environ.get("WHERRY_URL", "wherry://127.0.0.1:7117")) as broker:
        app.state.reports = await broker.declare("reports", max_messages=10_000)
        yield


async def order_report(request: Request) -> JSONResponse:
    """Takes an order for a report."""
    kind = request.query_params.get("kind", "daily")
    receipt = await request.app.state.reports.publish(kind, timeout=PATIENCE_S)
    return JSONResponse({"id": receipt.id}, status_code=202)


async def busy(_request: Request, error: Exception) -> JSONResponse:
    """The answer of every handler whose publish was refused: come back later, and when."""
    assert isinstance(error, wherry.Busy)
    seconds = max(1, math.ceil(error.retry_after))
    return JSONResponse({"error": str(error)}, status_code=503, headers={"Retry-After": str(seconds)})


app = Starlette(
    routes=[Route("/reports", order_report, methods=["POST"])],
    exception_handlers={wherry.Busy: busy},
    lifespan=lifespan,
)
