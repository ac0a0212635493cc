"""What figures depend on: the machine and the versions."""
import functools
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess


def setting(context):
    return {"machine": _machine(context.folder.parent), "versions": _versions()}


@functools.cache
def _machine(folder):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = next(int(line.split()[1]) for line in open("/proc/meminfo") if line.startswith("MemTotal")) / (1 << 20)
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    files = _said("findmnt", "-n", "-o", "FSTYPE", "-T", folder)
    return f"{os.cpu_count()} × {cpu}, {memory:.0f} GiB, {system}, Linux {os.uname().release}, files on {files}"


@functools.cache
def _versions():
    swift = re.search(r"Swift version (\S+)", _said("swift", "--version"))
    state = _said("git", "-C", pathlib.Path(__file__).parent, "describe", "--always", "--dirty", "--abbrev=10")
    python = {name: importlib.metadata.version(name) for name in ("comfy-api-proxy", "comfy-sdk", "aiohttp")}
    debian = {name: _said("dpkg-query", "-W", "-f", "${Version}", name) for name in ("libmicrohttpd-dev", "libsqlite3-dev", "nginx", "libnginx-mod-nchan", "wrk")}
    return {"comfy-bridge": state, "Swift": swift and swift[1], "Python": platform.python_version(), **python, **{name: value for name, value in debian.items() if value}}


def _said(*command):
    return subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
