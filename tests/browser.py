"""Debian's Chromium without a window, driven over its DevTools protocol: real wheels, keys, mice and fingers."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path

from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium")

# Width and height of a phone and of a laptop, in CSS pixels.
PHONE, LAPTOP = (390, 844), (1280, 800)

# Its command line without a window, and without what would ask the network for anything.
HEADLESS = (
    *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

_START_S, _ANSWER_S = 60, 60


class PageError(AssertionError):
    """The page threw, or did not come to what was waited for."""


class Browser:
    """One page in one browser; a context manager.

    Args:
        folder: Empty folder for the browser's profile.
        size: Width and height in CSS pixels.
    """

    def __init__(self, folder, size=LAPTOP):
        self._folder, self._size = Path(folder), size
        self._number = 0
        self.said = []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._process = subprocess.Popen(
                [
                    *HEADLESS,
                    *(f"--user-data-dir={self._folder}", "--remote-debugging-port=0", "about:blank"),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(self._process.wait)
            stack.callback(self._process.kill)
            self._socket = stack.enter_context(
                connect(self._page_address(), max_size=None, open_timeout=_START_S)
            )
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.send(f"{domain}.enable")
            self.resize(self._size)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        self._stack.close()

    def _page_address(self):
        port_file, deadline = self._folder / "DevToolsActivePort", time.monotonic() + _START_S
        while not (port_file.is_file() and port_file.read_text(encoding="ascii").count("\n")):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise PageError("Expected chromium to start. Received: no answer")
            time.sleep(0.05)
        port, path = port_file.read_text(encoding="ascii").split()
        with connect(f"ws://127.0.0.1:{port}{path}", open_timeout=_START_S) as browser:
            browser.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
            targets = json.loads(browser.recv(timeout=_ANSWER_S))["result"]["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        return f"ws://127.0.0.1:{port}/devtools/page/{page['targetId']}"

    def send(self, method, **parameters):
        """Sends a command; returns its result. What the page says meanwhile is kept in `said`."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=_ANSWER_S))
            if message.get("id") == self._number:
                if "error" in message:
                    raise PageError(f"{method}: {message['error']['message']}")
                return message["result"]
            if message["method"] in (
                "Runtime.exceptionThrown",
                "Log.entryAdded",
                "Network.requestWillBeSent",
            ):
                self.said.append(message)

    def complaints(self):
        """Texts of everything the page threw, and of what the browser logged as an error in it."""
        self.evaluate("0")
        thrown = [m["params"]["exceptionDetails"] for m in self.said if m["method"].endswith("Thrown")]
        texts = [d.get("exception", {}).get("description") or d["text"] for d in thrown]
        logged = [m["params"]["entry"] for m in self.said if m["method"] == "Log.entryAdded"]
        return texts + [entry["text"] for entry in logged if entry["level"] == "error"]

    def requested(self):
        """Addresses of everything the page asked for."""
        self.evaluate("0")
        return [m["params"]["request"]["url"] for m in self.said if m["method"].startswith("Network")]

    def open(self, path):
        """Opens a file and waits until it is loaded."""
        self.send("Page.navigate", url=Path(path).absolute().as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def evaluate(self, expression):
        """Value of an expression in the page; a promise is waited for."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, timeout=60000
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise PageError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait(self, expression, seconds=60):
        """Waits until an expression is true in the page."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(expression):
            if time.monotonic() > deadline:
                raise PageError(f"Expected within {seconds} s: {expression}. Said: {self.complaints()}")
            time.sleep(0.02)

    def resize(self, size, *, mobile=False):
        """Gives the page another size, and a finger instead of a mouse where `mobile`."""
        width, height = size
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=mobile)

    def middle(self, selector):
        """Middle of an element in the window, in CSS pixels."""
        return self.evaluate(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [b.left + b.width / 2, b.top + b.height / 2] })()"
        )

    def mouse(self, kind, x, y, **more):
        """`mouseMoved`, `mousePressed`, `mouseReleased` or `mouseWheel` at a place in the window."""
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector):
        """Presses and releases the mouse in the middle of an element."""
        self.evaluate(
            f"document.querySelector({json.dumps(selector)}).scrollIntoView({{ block: 'center', behavior: 'instant' }})"
        )
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def drag(self, start, end, steps=4):
        """Presses at one place, moves, and releases at another."""
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start, button="left", clickCount=1)
        for step in range(1, steps + 1):
            x, y = (a + (b - a) * step / steps for a, b in zip(start, end, strict=True))
            self.mouse("mouseMoved", x, y, button="left", buttons=1)
        self.mouse("mouseReleased", *end, button="left", clickCount=1)

    def touch(self, *places):
        """A finger put down at the first place, moved over the others and lifted."""
        for i, (x, y) in enumerate(places):
            kind = "touchMove" if i else "touchStart"
            self.send("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
        self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def key(self, key, modifiers=0):
        """Presses a key by its name in the DOM, such as `ArrowDown` or `r`."""
        codes = {"Tab": 9, "Enter": 13, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36}
        codes |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, " ": 32}
        number = codes.get(key) or ord(key.upper())
        pressed = {"key": key, "windowsVirtualKeyCode": number, "modifiers": modifiers}
        text = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **pressed, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def picture(self, path, *, whole=False):
        """Writes what the window shows, or the whole page, as PNG."""
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))


def choose(browser, pane, view):
    """Chooses what a report's image `left` or `right` shows, and waits until it can be seen."""
    browser.evaluate(
        f"(() => {{ const s = document.querySelector('#{pane} select'); s.value = '{view}';"
        "s.dispatchEvent(new Event('change')); })()"
    )
    browser.wait("shown.every((name) => VIEWS[name].asks !== 'kernels' || slice.maps)")
