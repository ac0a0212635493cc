"""Debian's Firefox over Marionette, its own remote protocol: JSON in frames of `LENGTH:TEXT` on a TCP connection. Playwright drives only its own builds of it."""

import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

FIREFOX = "/usr/bin/firefox-esr"
READY_WITHIN = 120
ANSWER_WITHIN = 120

PREFERENCES = {
    "marionette.port": 0,
    "app.update.enabled": False, "browser.shell.checkDefaultBrowser": False, "browser.startup.page": 0, "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False, "network.captive-portal-service.enabled": False, "network.connectivity-service.enabled": False,
    "browser.safebrowsing.malware.enabled": False, "browser.safebrowsing.phishing.enabled": False, "toolkit.telemetry.enabled": False,
    "services.settings.server": "data:,",
}


class Firefox:
    """Headless, with a profile of its own."""

    def __init__(self):
        self.profile = pathlib.Path(tempfile.mkdtemp(prefix="firefox-"))
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
        (self.profile / "user.js").write_text("".join(lines))
        self.process = subprocess.Popen(
            [FIREFOX, "--headless", "--marionette", "--no-remote", "--profile", self.profile], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True, env={**os.environ, "HOME": str(self.profile), "MOZ_CRASHREPORTER_DISABLE": "1"})
        self.numbers = itertools.count(1)
        try:
            self.socket = self._connect()
            self.stream = self.socket.makefile("rb")
            assert self._receive()["marionetteProtocol"] == 3
            self._call("WebDriver:NewSession", {"acceptInsecureCerts": True})
            self._call("WebDriver:SetTimeouts", {"script": ANSWER_WITHIN * 1000, "pageLoad": ANSWER_WITHIN * 1000})
        except BaseException:
            self.close()
            raise

    def goto(self, url):
        self._call("WebDriver:Navigate", {"url": url})

    def evaluate(self, function, argument=None):
        """As a Playwright page does it: the result of a JavaScript function, also of an asynchronous one."""
        script = f"const [argument, done] = arguments; Promise.resolve(({function})(argument)).then(value => done({{ value }}), error => done({{ error: String(error) }}));"
        answer = self._call("WebDriver:ExecuteAsyncScript", {"script": script, "args": [argument], "sandbox": None})["value"]
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def close(self):
        if hasattr(self, "socket"):
            self.socket.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)

    def _connect(self):
        port = self.profile / "MarionetteActivePort"
        deadline = time.monotonic() + READY_WITHIN
        while not (port.exists() and port.read_text().strip()):
            assert self.process.poll() is None, f"{FIREFOX} ended with {self.process.returncode}"
            assert time.monotonic() < deadline, f"{FIREFOX} does not listen"
            time.sleep(0.05)
        return socket.create_connection(("127.0.0.1", int(port.read_text())), timeout=ANSWER_WITHIN)

    def _call(self, command, parameters):
        number = next(self.numbers)
        text = json.dumps([0, number, command, parameters]).encode()
        self.socket.sendall(str(len(text)).encode() + b":" + text)
        kind, answered, error, result = self._receive()
        assert (kind, answered) == (1, number)
        assert error is None, error
        return result

    def _receive(self):
        digits = b""
        while not digits.endswith(b":"):
            digit = self.stream.read(1)
            assert digit, "Firefox has closed the connection"
            digits += digit
        return json.loads(self.stream.read(int(digits[:-1])))
