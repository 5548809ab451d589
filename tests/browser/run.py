"""Shows that the page of examples/web works in a real browser, over TLS and HTTP/2, with nothing in between.

    python run.py BINARY FOLDER CHROMEDRIVER [SCREENSHOT SCREENSHOT_OF_PASSKEYS]

FOLDER holds tls.crt and tls.key for localhost. The page and the server have different origins, so every call is one
across origins: with a preflight, and with headers that the page sees only because they are exposed.
"""

import sys
import uuid
from pathlib import Path

from page import Page, equal, serve
from passkeys import (
    a_page_of_another_origin_is_refused,
    a_passkey_for_another_rp_id_is_refused,
    a_passkey_registers_logs_in_and_steps_up,
)
from programs import PASSWORD, Countersign
from webdriver import Browser


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
    a_browser_that_logged_in_before_is_known(page)
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


def a_browser_that_logged_in_before_is_known(page: Page):
    """The server returns the token of a device that it knows, and makes another one for a device that it does not."""
    first = page.device_token()
    equal(first.startswith("csd_"), True)
    page.call("login", "done")
    equal(page.device_token(), first)
    page.browser.run("localStorage.clear()")
    page.call("login", "done")
    equal(page.device_token() == first, False)


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
    screenshots = dict(zip(("calls", "passkeys"), sys.argv[4:]))
    port, other_port = serve("examples/web"), serve("examples/web")
    origin, other, subdomain = (
        f"http://localhost:{port}",
        f"http://localhost:{other_port}",
        f"http://app.localhost:{port}",
    )
    countersign = Countersign(
        binary,
        folder,
        name="browser",
        COUNTERSIGN_CORS_ORIGINS=f"{origin},{other},{subdomain}",
        COUNTERSIGN_WEBAUTHN_ORIGINS=f"{origin},{subdomain}",
        COUNTERSIGN_TLS="on",
        COUNTERSIGN_TLS_CERT_FILE=str(folder / "tls.crt"),
        COUNTERSIGN_TLS_KEY_FILE=str(folder / "tls.key"),
    )
    server, log = f"https://localhost:{countersign.grpc_port}", countersign.log
    # The certificate is the test's own.
    browser = Browser(driver, "--ignore-certificate-errors")
    try:
        log_in_validate_refresh(browser, origin, server, screenshots.get("calls"))
        a_passkey_registers_logs_in_and_steps_up(browser, origin, server, screenshots.get("passkeys"))
        for authenticator in (
            {"defaultBackupEligibility": True, "defaultBackupState": True},
            {"protocol": "ctap2", "transport": "usb"},
        ):
            a_passkey_registers_logs_in_and_steps_up(browser, origin, server, **authenticator)
        a_page_of_another_origin_is_refused(browser, (origin, other), server, log)
        a_passkey_for_another_rp_id_is_refused(browser, (origin, subdomain), server, log)
        a_page_reads_the_keys(browser, f"https://localhost:{countersign.http_port}/.well-known/jwks.json")
        a_page_of_another_origin_reads_nothing(browser, f"http://127.0.0.1:{port}", server)
    finally:
        browser.close()
        countersign.stop()
    print(
        "browser: register, login, validate, refresh, logout, a rich error; passkeys of three authenticators: register, log in, "
        "step up, second factor; another origin, another RP id; the keys: passed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
