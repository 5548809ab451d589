"""The page of examples/web, as a user of a browser sees it."""

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

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

    def enter(self, email: str, password: str):
        self.browser.type("#email", email)
        self.browser.type("#password", password)

    def call(self, name: str, state: str = "done") -> dict[str, str]:
        """Clicks, waits for the answer, and returns what is shown."""
        self.browser.run("document.getElementById('result').dataset.state = 'waiting'")
        self.browser.click(f"#{name}")
        script = f"const r = document.getElementById('result').dataset; return r.call === '{name}' && !['waiting', 'busy'].includes(r.state) && r.state"
        seen = self.browser.wait_for(script)
        rows = dict(self.browser.run(ROWS))
        if seen != state:
            raise AssertionError(f"{name}: {seen}: {rows}\n{self.browser.console()}")
        return rows

    def device_token(self) -> str:
        """What tells the server that this browser logged in before."""
        return self.browser.run("return localStorage.getItem('deviceToken')")

    def refused(self, name: str) -> tuple[str, str]:
        """The code and the reason of a call that fails."""
        rows = self.call(name, "failed")
        return rows.get("code", ""), rows.get("reason", rows.get("browser", ""))
