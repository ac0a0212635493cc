"""What the workloads start: comfy-bridge and its simulator, comfy-api-proxy, and the load generator. Everything is stopped by its id."""
import asyncio
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import aiohttp


class Started:
    """A process, `self.process`, which ends where the `with` ends."""

    def start(self, *command, **options):
        # In a group of its own, so that Ctrl-C reaches this process alone, which then stops the others in their order.
        self.started = time.perf_counter()
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, process_group=0, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:  # comfy-api-proxy, when streams of it hang
            self.process.kill()
            self.process.wait(30)

    def resident_kb(self):
        return self._memory_kb("VmRSS")

    def peak_kb(self):
        """Since the start, or since `forget_peak`."""
        return self._memory_kb("VmHWM")

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")  # proc(5): resets the peak to what is resident now

    def _memory_kb(self, name):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(name))

    def cpu_seconds(self):
        """Of all its threads, also those that are over."""
        # The clock id that clock_getcpuclockid(3) makes of a process id. /proc/PID/stat counts in hundredths of a second.
        return time.clock_gettime(~self.process.pid << 3 | 2)


class Process(Started):
    """A command that prints `listening on URL` when it is ready; `url` is that."""

    def __init__(self, *command):
        self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            self.stop()
            raise RuntimeError(f"'{' '.join(map(str, command))}' ended with status {self.process.returncode} and said '{line}'")
        self.url = line.split()[2]


async def ready(session, url):
    """When the bridge at `url` has its ComfyUI."""
    while True:
        async with session.get(f"{url}/readyz") as answer:
            if answer.status == 200:
                return
        await asyncio.sleep(0.002)


class ComfyAPIProxy(Started):
    """comfy-api-proxy from PyPI, started as its users do."""

    def __init__(self, comfyui):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = pathlib.Path(sys.executable).with_name("comfy-api-proxy")
        self.start(command, "run", "--comfyui", comfyui, "--port", port, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    async def ready(self, session):
        while self.process.poll() is None:
            try:
                async with session.get(f"{self.url}/api/v2/health") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)
        raise RuntimeError(f"comfy-api-proxy ended with status {self.process.returncode}")


class Load:
    """comfy-bridge-load while it runs. What it says with exit status 1 was received wrong, and ends the benchmark."""

    def __init__(self, process, command):
        self.process = process
        self.command = command

    async def line(self):
        """The next line that it prints."""
        line = await self.process.stdout.readline()
        if not line:
            await self.result()
            raise RuntimeError(f"'{' '.join(self.command)}' ended too soon")
        return line.decode().strip()

    async def result(self):
        """Closes its standard input, which it may be waiting for, and returns the object that it prints at its end."""
        self.process.stdin.close()
        output, errors = await self.process.communicate()
        if self.process.returncode != 0:
            raise RuntimeError(f"'{' '.join(self.command)}' ended with status {self.process.returncode}: {errors.decode().strip()[-2000:]}")
        return json.loads(output.splitlines()[-1])


@contextlib.asynccontextmanager
async def load(*command):
    command = list(map(str, command))
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, limit=1 << 24, process_group=0)
    try:
        yield Load(process, command)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Nchan(Started):
    """Debian's nginx with nchan: GET /events is an event stream, POST /publish makes one event to all of them. A worker per core, as it comes."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        configuration = folder / "nginx.conf"
        configuration.write_text(_nchan_configuration(folder, port), encoding="utf-8")
        self.start("/usr/sbin/nginx", "-p", folder, "-c", configuration, "-e", folder / "error.log", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"nginx does not start: {(folder / 'error.log').read_text(encoding='utf-8')}") from None
                time.sleep(0.01)

    def cpu_seconds(self):
        return sum(time.clock_gettime(~pid << 3 | 2) for pid in self._processes())

    def _processes(self):
        """The master and its workers."""
        pid = self.process.pid
        return [pid, *map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split())]


def _nchan_configuration(folder, port):
    # Bodies of 1 MB stay in memory, and messages with them; a new viewer begins with the next one. One worker may get all connections.
    return f"""
load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off;
{"user root;" if os.geteuid() == 0 else ""}
pid {folder}/nginx.pid;
worker_processes auto;
worker_rlimit_nofile 20000;
events {{ worker_connections 10240; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 1m;
  client_body_buffer_size 1m;
  nchan_shared_memory_size 256m;
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location = /events {{
      nchan_subscriber eventsource;
      nchan_channel_id previews;
      nchan_subscriber_first_message newest;
    }}
    location = /publish {{
      nchan_publisher;
      nchan_channel_id previews;
      nchan_message_buffer_length 4;
    }}
  }}
}}
"""
