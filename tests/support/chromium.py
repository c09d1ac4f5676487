"""A real browser: Debian's Chromium, headless, by its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/. `Page` keeps what a test wants to know
afterwards: what was asked for over the network, and what the console complained of.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.tools import require_tool

#: Seconds that the browser may take to start, and that one command may take.
TIMEOUT = 30.0

#: --no-sandbox: the tests run as root in containers, where its sandbox cannot; they show it only
#: pages of their own. No name but loopback's is resolved, whatever the browser itself wants.
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-port=0",
)

#: `key` of an event to its virtual key code, where it is not that of the letter.
KEYS = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowRight": 39,
}


class Page:
    """One page of the browser.

    Attributes:
        requests: The URLs asked for, in order.
        complaints: What the console has of errors and warnings, and exceptions nobody caught.
    """

    def __init__(self, connection: "_Connection", session: str) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._connection = connection
        self._session = session

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command to the page and returns its result."""
        return await self._connection.call(method, parameters, self._session)

    async def open(self, url: str) -> None:
        """Goes to an address and waits until the document has loaded."""
        answer = await self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer
        here = f"location.href === {json.dumps(url)}"
        await self.wait_for(f"{here} && document.readyState === 'complete'")

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, a promise's when it is one."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def wait_for(self, expression: str, timeout: float = TIMEOUT, what: str = "") -> Any:
        """Waits until the expression is true; returns its value.

        `what`: an expression whose value a failure shows.
        """
        try:
            async with asyncio.timeout(timeout):
                while True:
                    if value := await self.evaluate(expression):
                        return value
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            shown = await self.evaluate(what) if what else ""
            raise AssertionError(f"not within {timeout} s: {expression} {shown}") from error

    async def offline(self, is_so: bool) -> None:
        """Takes its network away, or gives it back."""
        await self.call(
            "Network.emulateNetworkConditions",
            offline=is_so,
            latency=0,
            downloadThroughput=-1,
            uploadThroughput=-1,
        )

    async def resize(self, width: int, height: int, scale: float = 1.0) -> None:
        """Gives the page another size, in CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )

    async def prefer(self, scheme: str) -> None:
        """Sets prefers-color-scheme: light or dark."""
        await self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )

    async def press(self, key: str, *, shift: bool = False) -> None:
        """Presses a key, to what has the focus."""
        event = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        for kind in ("rawKeyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, modifiers=8 * shift, **event)

    async def screenshot(self) -> bytes:
        """What is seen of the page, as PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])

    def take(self, method: str, event: dict[str, Any]) -> None:
        """Keeps what an event tells."""
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(event["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(event["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if event["type"] in {"error", "warning", "assert"}:
                self.complaints.append(str(event["args"]))
            case "Log.entryAdded" if event["entry"]["level"] in {"error", "warning"}:
                entry = event["entry"]
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")


class _Connection:
    """Commands and their answers, told apart by number; events go to their page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.pages: dict[str, Page] = {}
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def call(
        self, method: str, parameters: dict[str, Any], session: str | None = None
    ) -> dict[str, Any]:
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message | ({"sessionId": session} if session else {}))
        async with asyncio.timeout(TIMEOUT):
            return await answer

    async def listen(self) -> None:
        """Takes what comes until the browser is gone; who still waits for an answer hears of it."""
        try:
            await self._listen()
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the browser is gone"))

    async def _listen(self) -> None:
        async for message in self._socket:
            event = message.json()
            if "id" in event:
                answer = self._answers.pop(event["id"])
                if answer.cancelled():
                    continue
                if "error" in event:
                    answer.set_exception(RuntimeError(event["error"]["message"]))
                else:
                    answer.set_result(event["result"])
            elif page := self.pages.get(event.get("sessionId", "")):
                page.take(event["method"], event["params"])


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A page of a browser of its own, which ends with its profile when the block does."""
    chromium = require_tool("chromium")
    profile = Path(tempfile.mkdtemp(prefix="megaphone-chromium-"))
    process = await asyncio.create_subprocess_exec(
        *(str(chromium), *OPTIONS, f"--user-data-dir={profile}", "about:blank"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        address = await _address(process, profile)
        async with (
            aiohttp.ClientSession() as http,
            # A browser that ends may say no goodbye.
            http.ws_connect(
                address, max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=1.0)
            ) as socket,
        ):
            connection = _Connection(socket)
            listening = asyncio.create_task(connection.listen())
            try:
                yield await _new_page(connection)
                # It may be gone before it has answered.
                with contextlib.suppress(ConnectionError):
                    await connection.call("Browser.close", {})
            finally:
                listening.cancel()
    finally:
        await _ended(process)
        shutil.rmtree(profile, ignore_errors=True)


async def _address(process: asyncio.subprocess.Process, profile: Path) -> str:
    """Where the browser listens: it says so in its profile."""
    told = profile / "DevToolsActivePort"
    async with asyncio.timeout(TIMEOUT):
        while True:
            with contextlib.suppress(FileNotFoundError, ValueError):
                port, path = told.read_text().split()
                return f"ws://127.0.0.1:{port}{path}"
            assert process.returncode is None, f"chromium ended: {process.returncode}"
            await asyncio.sleep(0.02)


async def _new_page(connection: _Connection) -> Page:
    target = await connection.call("Target.createTarget", {"url": "about:blank"})
    attached = await connection.call(
        "Target.attachToTarget", {"targetId": target["targetId"], "flatten": True}
    )
    page = connection.pages[attached["sessionId"]] = Page(connection, attached["sessionId"])
    for domain in ("Page", "Runtime", "Log", "Network"):
        await page.call(f"{domain}.enable")
    return page


async def _ended(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(5):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
