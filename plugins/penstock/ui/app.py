"""The pages: a FastAPI app that Airflow mounts under /penstock. Airflow does not check who asks; this does."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from penstock.errors import PenstockError
from penstock.ui.access import current_reader
from penstock.ui.faults import PageFault
from penstock.ui.pages import router
from penstock.ui.rendering import MOUNT, render

_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; frame-src 'self'; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _PAGE_POLICY,  # framing by Airflow itself only: it shows these pages in a frame
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_LOGIN = (401, 403)  # Airflow answers 401 without a token and 403 to a bad one

app = FastAPI(
    title="Penstock", dependencies=[Depends(current_reader)], docs_url=None, redoc_url=None, openapi_url=None
)  # fmt: skip
app.include_router(router)


@app.middleware("http")
async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Every answer is a page for this person now, with nothing from elsewhere in it."""
    answer = await call_next(request)
    for name, value in _HEADERS.items():
        answer.headers.setdefault(name, value)
    return answer


@app.exception_handler(StarletteHTTPException)
async def ask_to_log_in(request: Request, refused: HTTPException) -> Response:
    """A browser without a valid login is sent to Airflow's; everybody else gets the status."""
    if refused.status_code in _LOGIN and _is_browser(request):
        here = str(request.scope.get("root_path", ""))
        query = f"?{request.url.query}" if request.url.query else ""
        wanted = quote(f"{request.url.path}{query}", safe="")
        return RedirectResponse(f"{here.removesuffix(MOUNT)}/api/v2/auth/login?next={wanted}", status_code=307)
    return JSONResponse({"detail": refused.detail}, status_code=refused.status_code, headers=refused.headers)


@app.exception_handler(PageFault)
async def explain(request: Request, fault: PageFault) -> Response:
    """What is wrong and what to do, as a page, or as JSON for who does not ask for HTML."""
    if not _is_browser(request):
        return JSONResponse({"detail": fault.problem, "remedy": fault.remedy}, status_code=fault.status)
    return render(request, "fault.html", status=fault.status, fault=fault)


@app.exception_handler(PenstockError)
async def explain_other(request: Request, error: PenstockError) -> Response:
    """The same for faults of the library, such as an environment's file that is wrong."""
    return await explain(request, PageFault(str(error), "`penstock validate` and `penstock status` say more."))


def _is_browser(request: Request) -> bool:
    return request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", "")
