"""Shows that the page of examples/web works in a real browser, over TLS and HTTP/2, with nothing in between.

    python run.py BINARY FOLDER CHROMEDRIVER [SCREENSHOT]

FOLDER holds tls.crt and tls.key for localhost. The page and the server have different origins, so every call is one
across origins: with a preflight, and with headers that the page sees only because they are exposed.
"""

import functools
import sys
import threading
import uuid
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from programs import PASSWORD, Countersign
from webdriver import Browser

ROWS = "return [...document.querySelectorAll('#rows tr')].map(row => [...row.cells].map(cell => cell.textContent))"


class Files(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def serve(folder: str) -> int:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def equal(seen, expected):
    if seen != expected:
        raise AssertionError(f"{seen!r} is not {expected!r}")


class Page:
    def __init__(self, browser: Browser, url: str, server: str):
        self.browser = browser
        browser.open(f"{url}/index.html?server={server}")

    def call(self, name: str, state: str) -> dict[str, str]:
        """Clicks, waits for the answer, and returns what is shown."""
        self.browser.run("document.getElementById('result').dataset.state = 'waiting'")
        self.browser.click(f"#{name}")
        script = f"const r = document.getElementById('result').dataset; return r.call === '{name}' && !['waiting', 'busy'].includes(r.state) && r.state"
        seen = self.browser.wait_for(script)
        rows = dict(self.browser.run(ROWS))
        if seen != state:
            raise AssertionError(f"{name}: {seen}: {rows}\n{self.browser.console()}")
        return rows


def log_in_validate_refresh(browser: Browser, url: str, server: str, screenshot: str | None):
    page = Page(browser, url, server)
    email = f"{uuid.uuid4()}@example.org"
    browser.type("#email", email)
    browser.type("#password", PASSWORD)
    registered = page.call("register", "done")
    equal(registered["email"], email)
    refused = page.call("validate", "failed")
    equal((refused["code"], refused["reason"]), ("UNAUTHENTICATED", "TOKEN_MISSING"))
    logged_in = page.call("login", "done")
    valid = page.call("validate", "done")
    equal((valid["userId"], valid["sessionId"]), (registered["userId"], logged_in["sessionId"]))
    equal(page.call("refresh", "done")["sessionId"], logged_in["sessionId"])
    page.call("validate", "done")
    page.call("logout", "done")
    refused = page.call("validate", "failed")
    equal((refused["code"], refused["reason"]), ("UNAUTHENTICATED", "TOKEN_REVOKED"))
    # A rich error: the field at fault, and the id under which the server has logged it.
    browser.type("#email", "not an address")
    refused = page.call("register", "failed")
    equal((refused["code"], refused["reason"]), ("INVALID_ARGUMENT", "INVALID_FIELD"))
    equal((bool(refused["email"]), len(refused["request id"])), (True, 36))
    if screenshot:
        browser.screenshot(screenshot)
    protocols = "return performance.getEntriesByType('resource').filter(e => e.name.includes('AuthService')).map(e => e.nextHopProtocol)"
    # Empty for answers that do not allow the page to see their timing.
    equal(set(browser.run(protocols)) <= {"h2", ""}, True)


def a_page_of_another_origin_reads_nothing(browser: Browser, url: str, server: str):
    page = Page(browser, url, server)
    browser.type("#email", "ada@example.org")
    browser.type("#password", PASSWORD)
    equal(page.call("login", "failed")["code"], "UNAVAILABLE")
    if not any("CORS policy" in line for line in browser.console()):
        raise AssertionError("it failed for another reason")


def a_page_reads_the_keys(browser: Browser, jwks: str):
    script = f"return fetch('{jwks}').then(r => r.json()).then(keys => keys.keys.length, e => String(e))"
    equal(browser.run(script), 1)


def main() -> int:
    binary, folder, driver = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    screenshot = sys.argv[4] if len(sys.argv) > 4 else None
    port = serve("examples/web")
    origin = f"http://localhost:{port}"
    countersign = Countersign(
        binary,
        folder,
        name="browser",
        COUNTERSIGN_CORS_ORIGINS=origin,
        COUNTERSIGN_TLS="on",
        COUNTERSIGN_TLS_CERT_FILE=str(folder / "tls.crt"),
        COUNTERSIGN_TLS_KEY_FILE=str(folder / "tls.key"),
    )
    server = f"https://localhost:{countersign.grpc_port}"
    # The certificate is the test's own.
    browser = Browser(driver, "--ignore-certificate-errors")
    try:
        log_in_validate_refresh(browser, origin, server, screenshot)
        a_page_reads_the_keys(browser, f"https://localhost:{countersign.http_port}/.well-known/jwks.json")
        a_page_of_another_origin_reads_nothing(browser, f"http://127.0.0.1:{port}", server)
    finally:
        browser.close()
        countersign.stop()
    print("browser: register, login, validate, refresh, logout, a rich error; another origin; the keys: passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
