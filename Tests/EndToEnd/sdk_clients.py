"""The official SDK's two clients, so that one test asks both."""

import asyncio
import dataclasses
import inspect
import threading

import comfy_sdk

CALL_WITHIN = 60


class EventLoop:
    """An event loop on its own thread, for calls from any thread."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(coroutine, CALL_WITHIN), self.loop).result()


class Waiting:
    """An object of the asynchronous SDK (client, job, asset, output) that waits for what its methods return, as the synchronous one does."""

    def __init__(self, target, loop):
        self.__target = target
        self.__loop = loop

    def __getattr__(self, name):
        return self.__wrap(getattr(self.__target, name))

    def __repr__(self):
        return repr(self.__target)

    def __wrap(self, value):
        if inspect.ismethod(value):
            return lambda *arguments, **options: self.__wrap(value(*map(_unwrap, arguments), **{name: _unwrap(option) for name, option in options.items()}))
        if inspect.iscoroutine(value):
            return self.__wrap(self.__loop.run(value))
        if inspect.isasyncgen(value):
            return self.__iterate(value)
        if isinstance(value, list):
            return [self.__wrap(element) for element in value]
        if isinstance(value, comfy_sdk.OutputReady):
            return dataclasses.replace(value, output=self.__wrap(value.output))
        return Waiting(value, self.__loop) if type(value).__name__.startswith("Async") else value

    def __iterate(self, generator):
        end = object()

        async def step():
            return await anext(generator, end)

        try:
            while (value := self.__loop.run(step())) is not end:
                yield self.__wrap(value)
        finally:
            self.__loop.run(generator.aclose())


def _unwrap(value):
    """What the SDK itself is given: its own objects, also inside of workflows."""
    if isinstance(value, Waiting):
        return value._Waiting__target
    if isinstance(value, comfy_sdk.Workflow):
        return comfy_sdk.Workflow(_unwrap(value.json))
    if isinstance(value, dict):
        return {name: _unwrap(element) for name, element in value.items()}
    return [_unwrap(element) for element in value] if isinstance(value, list) else value


def job_until(job, wanted):
    """Follows the job's events up to the first for which `wanted` holds, and returns it."""
    return next(event for event in job.events() if wanted(event))


def until_running(job):
    return job_until(job, lambda event: isinstance(event, comfy_sdk.StatusChange) and event.status == "running")
