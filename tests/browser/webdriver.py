"""A headless Chromium, driven by the few commands of WebDriver (https://www.w3.org/TR/webdriver2/) that the test needs."""

import base64
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

PATIENCE_SECONDS = 30
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=900,900"]


class Browser:
    """One window. `arguments` are further options of Chromium."""

    def __init__(self, driver: str, *arguments: str):
        self.process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
        self.base = None
        for line in self.process.stdout:
            if told := re.search(r"started successfully on port (\d+)", line):
                self.base = f"http://127.0.0.1:{told[1]}/session"
                break
        if not self.base:
            raise SystemExit("chromedriver did not start")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        options = {"args": [*ARGUMENTS, *arguments]}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        session = self.ask("POST", "", {"capabilities": wanted})
        self.base += f"/{session['sessionId']}"

    def ask(self, method: str, path: str, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=2 * PATIENCE_SECONDS) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()}") from None

    def open(self, url: str):
        self.ask("POST", "/url", {"url": url})

    def find(self, css: str) -> str:
        return self.ask("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def type(self, css: str, text: str):
        element = self.find(css)
        self.ask("POST", f"/element/{element}/clear", {})
        self.ask("POST", f"/element/{element}/value", {"text": text})

    def click(self, css: str):
        self.ask("POST", f"/element/{self.find(css)}/click", {})

    def run(self, script: str, *arguments: str):
        """What the script returns; it may await."""
        script = f"return (async function () {{ {script} }}).apply(null, arguments)"
        return self.ask("POST", "/execute/sync", {"script": script, "args": arguments})

    def wait_for(self, script: str):
        """The first value of the script that is not false, 0, empty or null."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                raise AssertionError(f"not in time: {script}\n{self.console()}")
            time.sleep(0.05)
        return value

    @contextmanager
    def authenticator(self, **changes):
        """The id of a virtual authenticator (WebAuthn Level 3, section 11.3), which verifies its user at once."""
        options = {
            "protocol": "ctap2_1",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            **changes,
        }
        authenticator = self.ask("POST", "/webauthn/authenticator", options)
        try:
            yield authenticator
        finally:
            self.ask("DELETE", f"/webauthn/authenticator/{authenticator}", None)

    def passkeys(self, authenticator: str) -> list[dict]:
        return self.ask("GET", f"/webauthn/authenticator/{authenticator}/credentials")

    def add_passkey(self, authenticator: str, passkey: dict):
        self.ask("POST", f"/webauthn/authenticator/{authenticator}/credential", passkey)

    def verify_users(self, authenticator: str, is_verified: bool):
        """Whether the authenticator recognises its user from now on."""
        self.ask("POST", f"/webauthn/authenticator/{authenticator}/uv", {"isUserVerified": is_verified})

    def console(self) -> list[str]:
        return [entry["message"] for entry in self.ask("POST", "/se/log", {"type": "browser"})]

    def screenshot(self, path: str):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.ask("GET", f"/element/{self.find('body')}/screenshot")))

    def close(self):
        try:
            self.ask("DELETE", "", None)
        finally:
            self.process.kill()
            self.process.wait()
