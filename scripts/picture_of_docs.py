"""Look at ``/docs`` in Chromium: try a request, and fail at any error of the browser.

    pip install playwright
    python scripts/picture_of_docs.py /usr/bin/chromium build/docs-page

Pictures of the page, narrow and wide, light and dark, go into the folder. Each is of a service of
its own in memory, in which a session is created by clicking.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

SERVE = [sys.executable, "-m", "agent_cores.session.cli", "serve", "--port", "0"]
SIZES = {"wide": (1280, 900), "narrow": (390, 844)}
OPERATION = "#operations-Sessions-create_session"


def main(chromium: str, folder: Path) -> int:
    """Start the service and take the pictures; return the exit status."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "SESSION_STORAGE_URL": "memory://"}
    service = subprocess.Popen(
        SERVE, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        address, key = address_and_key(service)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox"] if os.geteuid() == 0 else []
            )
            found: list[str] = []
            for size, (width, height) in SIZES.items():
                for scheme in ("light", "dark"):
                    page = browser.new_page(
                        viewport={"width": width, "height": height}, color_scheme=scheme
                    )
                    watch(page, address, found)
                    page.goto(f"{address}/docs")
                    try_it(page, key, folder / f"{size}-{scheme}")
    finally:
        service.terminate()
        service.wait()
    print("\n".join(found) or f"no errors; the pictures are in {folder}")
    return int(bool(found))


def address_and_key(service: subprocess.Popen[str]) -> tuple[str, str]:
    """Read what the service prints when it starts."""
    assert service.stdout is not None
    printed = ""
    for line in service.stdout:
        printed += line
        address = re.search(r"http://127\.0\.0\.1:\d+", printed)
        key = re.search(r"ask_[\w-]+", printed)
        if address and key:
            return address[0], key[0]
    raise SystemExit(printed)


def watch(page: Page, address: str, found: list[str]) -> None:
    """Note errors, what the content policy blocks, and requests to anywhere else."""
    page.on("console", lambda message: found.extend([message.text]))
    page.on("pageerror", lambda error: found.extend([str(error)]))
    page.on("request", lambda request: found.extend(elsewhere(request.url, address)))


def elsewhere(url: str, address: str) -> list[str]:
    """Return what is wrong with a request to this URL."""
    return [] if url.startswith((f"{address}/", "data:")) else [f"a request to {url}"]


def try_it(page: Page, key: str, picture: Path) -> None:
    """Authorize, create a session, and take a picture of each step."""
    page.wait_for_selector(OPERATION)
    page.screenshot(path=f"{picture}-1.png")
    page.click("button.authorize")
    page.wait_for_selector(".dialog-ux input")
    page.screenshot(path=f"{picture}-2.png")
    page.fill("#auth-bearer-value", key)
    page.click(".auth-container:has(#auth-bearer-value) button[type=submit]")
    page.fill(".auth-container:has-text('X-User-Id') input", "ann")
    page.click(".auth-container:has-text('X-User-Id') button[type=submit]")
    page.click(".dialog-ux button.btn-done")
    page.click(f"{OPERATION} .opblock-summary-control")
    page.wait_for_selector(f"{OPERATION} button.execute")
    page.locator(OPERATION).scroll_into_view_if_needed()
    page.screenshot(path=f"{picture}-3.png")
    page.click(f"{OPERATION} button.execute")
    status = page.wait_for_selector(
        f"{OPERATION} .live-responses-table tbody td.response-col_status"
    )
    assert status.inner_text().startswith("201"), status.inner_text()
    page.locator(f"{OPERATION} .request-url").scroll_into_view_if_needed()
    page.screenshot(path=f"{picture}-4.png")
    page.locator(f"{OPERATION} .responses-wrapper").screenshot(path=f"{picture}-5.png")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
