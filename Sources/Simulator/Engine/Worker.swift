import Foundation
import Logging
import OrderedJSON

/// The one thread that runs prompts, one at a time.
final class Worker: Sendable {
    private let queue: PromptQueue
    private let services: RunServices
    private let cachePolicy: ComfySimulator.CachePolicy
    private let logs: LogBook
    private let logger: Logger
    private let stopped: @Sendable () -> Void

    /// - Parameter stopped: called on the thread when it ends.
    init(
        queue: PromptQueue, services: RunServices, cachePolicy: ComfySimulator.CachePolicy, logs: LogBook, logger: Logger,
        stopped: @escaping @Sendable () -> Void
    ) {
        self.queue = queue
        self.services = services
        self.cachePolicy = cachePolicy
        self.logs = logs
        self.logger = logger
        self.stopped = stopped
    }

    func start() {
        let thread = Thread {
            self.loop()
            self.stopped()
        }
        thread.name = "comfy-simulator"
        thread.stackSize = 8 << 20
        thread.start()
    }

    /// The thread does nothing any more from its next look at the flag on.
    func die() {
        services.control.killWorker()
        queue.wakeWorker()
    }

    /// The thread ends at its next look at the flag, at once when it waits.
    func stop() {
        services.control.stop()
        queue.wakeWorker()
    }

    private func loop() {
        var cache = ResultCache(policy: cachePolicy)
        while !services.control.isStopping, !services.control.isWorkerDying {
            if queue.takeFreeRequest() { cache.removeAll() }
            do {
                guard let prompt = try queue.take() else {
                    queue.waitForWork()
                    continue
                }
                guard run(prompt, &cache) else { break }
            } catch {
                logger.warning("the worker thread died: two equal entries in the queue")
                break
            }
        }
        while !services.control.isStopping { queue.waitForWork() }  // dead, but the server lives on
    }

    /// False when the worker died, or has to.
    private func run(_ prompt: Prompt, _ cache: inout ResultCache) -> Bool {
        let start = ContinuousClock.now
        switch PromptRun(prompt, services: services).execute(&cache) {
        case .abandoned:
            return false
        case .workerDied:
            return died(prompt)
        case .finished(let entry):
            guard services.faults.finish(entry, in: queue) else { return false }
            do {
                try services.faults.reached(.end, prompt)
            } catch {
                return error is WorkerDied ? died(prompt) : false
            }
            if !prompt.client.isAbsent {
                services.faults.sendFinal("executing", prompt) {
                    services.hub.send("executing", ["node": nil, "prompt_id": .string(prompt.id)], to: .client(prompt.client))
                }
            }
            logs.add("Prompt executed in \(fixed2((ContinuousClock.now - start) / .seconds(1))) seconds\n")
            return true
        }
    }

    private func died(_ prompt: Prompt) -> Bool {
        logger.warning("the worker thread died", metadata: ["comfy.prompt_id": "\(prompt.id)"])
        return false
    }

    private func fixed2(_ seconds: Double) -> String {
        let hundredths = Int((seconds * 100).rounded())
        return "\(hundredths / 100)." + (hundredths % 100 < 10 ? "0" : "") + "\(hundredths % 100)"
    }
}
