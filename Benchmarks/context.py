"""What each workload is given: the binaries, a folder, how much to measure, and the two or more sides of a comparison run in turn."""
import contextlib
import dataclasses
import itertools
import pathlib
import sys

import aiohttp

import peers


@dataclasses.dataclass(frozen=True)
class Context:
    quick: bool
    comfy_bridge: pathlib.Path
    comfy_bridge_load: pathlib.Path
    floor: pathlib.Path
    """The bare C program on libmicrohttpd."""
    folder: pathlib.Path
    """On a disk; removed at the end."""
    _numbers: itertools.count = dataclasses.field(default_factory=itertools.count)

    def pick(self, full, quick):
        """`quick` in a run with --quick, which as a whole must end within 3 minutes; else `full`, 20 minutes."""
        return quick if self.quick else full

    def new_folder(self, name):
        folder = self.folder / f"{name}-{next(self._numbers)}"
        folder.mkdir()
        return folder

    # MARK: Servers, to be used in a `with`

    def simulator(self, *options, step_delay=0, directory=None):
        return peers.Process(
            self.comfy_bridge, "simulate", "--port", 0, "--directory", directory or self.new_folder("comfyui"), "--step-delay", step_delay, "--preview-size", 64, "--log-level", "error",
            *options)

    def bridge(self, simulator, *options, data=None):
        """With the daemon's default storage in a new folder; `data` is another folder, or "none" for a bridge that keeps jobs in memory."""
        data = data or self.new_folder("data")
        return peers.Process(
            self.comfy_bridge, "serve", "--port", 0, "--comfyui", simulator.url, "--data-dir", data, "--log-level", "error", *options)

    @contextlib.asynccontextmanager
    async def ready_bridge(self, simulator, *options, data=None):
        """The same for an `async with`, which begins when the bridge has its ComfyUI."""
        with self.bridge(simulator, *options, data=data) as bridge:
            async with session() as asking:
                await peers.ready(asking, bridge.url)
            yield bridge

    def relay(self, simulator):
        """The least that can answer `POST /run`: the floor for a bridge."""
        return peers.Process(self.comfy_bridge_load, "relay", "--comfyui", simulator.url)

    # MARK: Load

    def loading(self, command, *options):
        """An `async with` over a load generator that runs meanwhile: `peers.Load`."""
        return peers.load(self.comfy_bridge_load, command, *options)

    async def load(self, command, *options):
        """What the load generator found, once it has ended."""
        async with self.loading(command, *options) as load:
            return await load.result()

    # MARK: Comparison

    async def in_turn(self, rounds, **sides):
        """Runs the sides in turn, A B C A B C …, `rounds` times: what each returned, by its name, in order.

        A side is a function without parameters to be awaited.
        """
        results = {name: [] for name in sides}
        for number in range(rounds):
            for name, side in sides.items():
                results[name].append(await side())
            note(f"{number + 1}/{rounds}")
        return results


def session():
    """An HTTP client that waits long and opens as many connections as it is asked to."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=300))


def note(text):
    """For who watches."""
    print(f"   {text}", file=sys.stderr, flush=True)
