"""Passkeys of virtual authenticators, in the page of examples/web: what is accepted, and what is refused by whom."""

import json
import time
import uuid
from pathlib import Path

from page import Page, equal
from programs import PASSWORD
from webdriver import PATIENCE_SECONDS, Browser

ONE_FACTOR, PHISHING_RESISTANT = "urn:countersign:acr:1", "urn:countersign:acr:phr"
REFUSED = ("UNAUTHENTICATED", "SECOND_FACTOR_INVALID")
# A login by passkey as the page does it, for another relying party than the server asks for.
LOGIN_FOR_RP_ID = """
const [server, rpId] = arguments;
const { AuthClient } = await import("./grpcweb.js");
const { usePasskey } = await import("./passkeys.js");
const auth = new AuthClient(server);
const { options, challenge } = await auth.beginPasskeyLogin();
try {
  await auth.finishPasskeyLogin(challenge, await usePasskey({ ...options, rpId }));
} catch (error) {
  return [error.code ?? "", error.reason || error.message];
}
return ["OK", ""];
"""

# An access token of a login by password alone.
ACCESS_TOKEN = """
const [server, email, password] = arguments;
const { AuthClient } = await import("./grpcweb.js");
return (await new AuthClient(server).login(email, password, "")).accessToken;
"""
# A step-up as the page does it, with a token that another page got.
STEP_UP_WITH_TOKEN = """
const [server, accessToken] = arguments;
const { AccountClient, AuthClient } = await import("./grpcweb.js");
const { usePasskey } = await import("./passkeys.js");
const { options, challenge } = await new AuthClient(server).beginPasskeyLogin();
try {
  await new AccountClient(server, accessToken).reauthenticate(challenge, await usePasskey(options));
} catch (error) {
  return [error.code ?? "", error.reason || error.message];
}
return ["OK", ""];
"""


def new_address() -> str:
    return f"{uuid.uuid4()}@example.org"


def registered(page: Page) -> tuple[str, dict[str, str]]:
    """The address and the id of a new user, who is logged in by the password."""
    email = new_address()
    page.enter(email, PASSWORD)
    user = page.call("register")
    page.call("login")
    return email, user


def a_passkey_registers_logs_in_and_steps_up(
    browser: Browser, url: str, server: str, screenshot: str | None = None, **authenticator
):
    with browser.authenticator(**authenticator) as authenticator:
        page = Page(browser, url, server)
        equal(page.refused("registerPasskey"), ("UNAUTHENTICATED", "TOKEN_MISSING"))
        email, user = registered(page)
        equal(page.call("validate")["acr"], ONE_FACTOR)
        equal(page.call("factors"), {})
        added = page.call("registerPasskey")
        equal((added["label"], bool(added["recoveryCodes"])), ("this browser", True))
        (passkey,) = browser.passkeys(authenticator)
        equal((passkey["isResidentCredential"], passkey["rpId"]), (True, "localhost"))
        kind = "swk" if passkey["backupEligibility"] else "hwk"
        factors = page.call("factors")
        equal((list(factors), factors[added["factorId"]].split(", ")[:2]), ([added["factorId"]], ["passkey", "this browser"]))
        # This token is of one factor; a user who has two changes them by two alone.
        validated = page.call("validate")
        equal((validated["amr"], validated["acr"]), ("pwd", ONE_FACTOR))
        equal(page.refused("registerPasskey"), ("UNAUTHENTICATED", "STEP_UP_REQUIRED"))
        page.call("stepUp")
        stepped_up = page.call("validate")
        equal((stepped_up["acr"], stepped_up["sessionId"]), (PHISHING_RESISTANT, validated["sessionId"]))
        equal(page.call("factors")[added["factorId"]].split(", ")[3].split()[:2], ["last", "used"])
        # The server takes the call now. The authenticator has a passkey of this account and makes no other one.
        equal(page.refused("registerPasskey")[1].split(":")[0], "InvalidStateError")
        page.call("logout")
        device = page.device_token()
        log_in_by_passkey_alone(page, user["userId"], kind)
        equal(page.device_token(), device)
        if screenshot:
            browser.screenshot(screenshot)
        # The password alone opens no session: the page answers the challenge by the passkey.
        page.call("logout")
        page.enter(email, PASSWORD)
        page.call("login")
        validated = page.call("validate")
        equal((validated["userId"], validated["amr"], validated["acr"]), (user["userId"], f"pwd {kind} mfa", PHISHING_RESISTANT))
        equal(page.device_token(), device)
        browser.verify_users(authenticator, False)
        equal(page.refused("passkeyLogin")[1].split(":")[0], "NotAllowedError")


def log_in_by_passkey_alone(page: Page, user_id: str, kind: str):
    page.enter("", "")
    page.call("passkeyLogin")
    validated = page.call("validate")
    equal((validated["userId"], validated["amr"], validated["acr"]), (user_id, f"{kind} mfa", PHISHING_RESISTANT))


def a_page_of_another_origin_is_refused(browser: Browser, urls: tuple[str, str], server: str, log: Path):
    """Both pages may call the server, and have the host of the RP id. The passkeys are for the first one alone."""
    good, other = urls
    with browser.authenticator():
        page = Page(browser, good, server)
        email, _ = registered(page)
        token = browser.run(ACCESS_TOKEN, server, email, PASSWORD)
        page.call("registerPasskey")
        page = Page(browser, other, server)
        equal(tuple(browser.run(STEP_UP_WITH_TOKEN, server, token)), REFUSED)
        equal(page.refused("passkeyLogin"), REFUSED)
        page.enter(email, PASSWORD)
        equal(page.refused("login"), REFUSED)
        registered(page)
        equal(page.refused("registerPasskey"), REFUSED)
        equal(refusals(log, 4), 4 * ["the origin is not one of those configured"])
        page = Page(browser, good, server)
        page.enter(email, PASSWORD)
        page.call("login")


def a_passkey_for_another_rp_id_is_refused(browser: Browser, urls: tuple[str, str], server: str, log: Path):
    """Both origins are configured. The second one has a host of its own, which a page may use as RP id."""
    good, subdomain = urls
    with browser.authenticator() as authenticator:
        page = Page(browser, good, server)
        registered(page)
        page.call("registerPasskey")
        (passkey,) = browser.passkeys(authenticator)
        # The browser lets no page use a name that is not its own.
        equal(browser.run(LOGIN_FOR_RP_ID, server, "example.com")[1].split(":")[0], "SecurityError")
    host = subdomain.split("//")[1].split(":")[0]
    with browser.authenticator() as authenticator:
        browser.add_passkey(authenticator, passkey | {"rpId": host})
        Page(browser, subdomain, server)
        before = len(refusals(log))
        equal(tuple(browser.run(LOGIN_FOR_RP_ID, server, host)), REFUSED)
        equal(refusals(log, before + 1)[before:], ["the RP ID does not match"])


def refusals(log: Path, count: int = 0) -> list[str]:
    """What the operator is told of refused responses, at least that many of them."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        text = log.read_text()
        lines = [json.loads(line) for line in text.splitlines() if '"refusal"' in line and line.endswith("}")]
        told = [line["refusal"] for line in lines]
        if len(told) >= count:
            return told
        if time.monotonic() > deadline:
            raise AssertionError(f"{count} refusals are not in the log: {text}")
        time.sleep(0.05)
