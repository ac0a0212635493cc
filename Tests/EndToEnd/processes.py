"""comfy-bridge as a process: started, waited for by its own line, stopped with SIGTERM."""

import os
import queue
import signal
import subprocess
import tempfile
import threading
import time

READY_WITHIN = 120
STOP_WITHIN = 60


class Process:
    """`comfy-bridge ARGUMENTS…`, listening. Its standard error goes to a file and is shown when something is wrong.

    A bridge keeps everything in memory unless the arguments name a --data-dir. `limits`: of the process, by their names for prlimit(1): {"nofile": 100}.
    `environment`: variables beside those of the tests.
    """

    def __init__(self, binary, *arguments, limits=None, environment=None):
        self.arguments = [str(binary), *map(str, arguments)]
        self.log = tempfile.NamedTemporaryFile(prefix="comfy-bridge-", suffix=".log")
        command = self.arguments
        for name, value in (limits or {}).items():
            command = ["prlimit", f"--{name}={value}:{value}", *command]
        environment = {**os.environ, "COMFY_BRIDGE_DATA_DIR": "none", **(environment or {})}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.lines = queue.Queue()
        # Reads to the end, so that a full pipe never stops the process; None marks the end.
        threading.Thread(target=self._read, daemon=True).start()
        self.url = self._wait_until_listening()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def _wait_until_listening(self):
        deadline = time.monotonic() + READY_WITHIN
        while True:
            try:
                line = self.lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                self.stop(check=False)
                raise AssertionError(f"no 'listening on' line within {READY_WITHIN} s: {self._description()}") from None
            if line is None:
                raise AssertionError(f"ended with status {self.process.wait()} before it listened: {self._description()}")
            if line.startswith("listening on "):
                return line.removeprefix("listening on ").strip().rstrip("/")

    def stop(self, check=True):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
        try:
            status = self.process.wait(timeout=STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"still running {STOP_WITHIN} s after SIGTERM: {self._description()}") from None
        if check:
            assert status == 0, f"ended with status {status}: {self._description()}"

    def text_of_log(self):
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            return log.read()

    def _description(self):
        return f"{' '.join(self.arguments)}\n{self.text_of_log()[-4000:]}"
