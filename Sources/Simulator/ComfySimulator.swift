import Foundation
package import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import Synchronization

/// A ComfyUI look-alike that runs real graphs over the real protocol and makes no pictures worth keeping.
///
/// One event loop answers HTTP and serves the sockets, one thread runs prompts, as in ComfyUI; everything but files is in memory.
/// What it promises is in the protocol page: order of messages, who gets them, wording of errors, and the traps.
package final class ComfySimulator: Service {
    private enum State {
        case new
        case starting
        case running(Running)
        case stopped
    }

    private struct Running {
        let port: Int
        let group: MultiThreadedEventLoopGroup
        let hub: EventHub
        let queue: PromptQueue
        let worker: Worker
        let workerStopped: EventLoopFuture<Void>
        let directory: String
        let isDirectoryTemporary: Bool
    }

    private let configuration: Configuration
    private let logger: Logger
    private let state = Mutex(State.new)

    package init(configuration: Configuration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
    }

    /// What happened so far; zeros before the start and after the stop.
    package var statistics: Statistics {
        state.withLock { state in
            guard case .running(let running) = state else { return Statistics(promptsAccepted: 0, promptsRun: [:], framesSent: 0) }
            return Statistics(
                promptsAccepted: running.queue.accepted, promptsRun: running.queue.runs, framesSent: running.hub.framesSent)
        }
    }

    /// Where the folders input, output and temp are; nil before the start and after the stop.
    package var directory: String? {
        state.withLock { state in if case .running(let running) = state { running.directory } else { nil } }
    }

    /// Binds, listens and serves. A simulator starts once; a restart is a new one on the same directory.
    ///
    /// - Returns: the bound port.
    package func start() async throws -> Int {
        let isNew = state.withLock { state in
            guard case .new = state else { return false }
            state = .starting
            return true
        }
        precondition(isNew, "a simulator starts once")
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let directory = configuration.directory ?? NSTemporaryDirectory() + "comfy-simulator-" + UUID().uuidString
        do {
            let running = try await start(on: group, directory: directory)
            state.withLock { $0 = .running(running) }
            logger.info("simulated ComfyUI listens", metadata: ["server.port": "\(running.port)"])
            return running.port
        } catch {
            state.withLock { $0 = .stopped }
            try? await group.shutdownGracefully()
            if configuration.directory == nil { try? FileManager.default.removeItem(atPath: directory) }
            throw error
        }
    }

    /// Starts if needed and serves until graceful shutdown or cancellation, then stops.
    package func run() async throws {
        let isNew = state.withLock { state in if case .new = state { true } else { false } }
        if isNew { _ = try await start() }
        try? await gracefulShutdown()  // throws when the task is cancelled, which ends the service the same way
        await stop()
    }

    /// Ends like a killed process: running prompts are abandoned, sockets drop without a close frame.
    package func stop() async {
        let running = state.withLock { state -> Running? in
            guard case .running(let running) = state else { return nil }
            state = .stopped
            return running
        }
        guard let running else { return }
        running.worker.stop()
        try? await running.workerStopped.get()
        do {
            try await running.group.shutdownGracefully()
        } catch {
            logger.warning("the simulator's event loop did not stop", metadata: ["error": "\(error)"])
        }
        if running.isDirectoryTemporary { try? FileManager.default.removeItem(atPath: running.directory) }
    }

    private func start(on group: MultiThreadedEventLoopGroup, directory: String) async throws -> Running {
        let loop = group.next()
        let folders = try Folders(root: directory)
        let catalog = NodeCatalog(compatibility: configuration.compatibility, checkpoints: configuration.checkpoints)
        let connections = Connections()
        let hub = EventHub(
            loop: loop, serverFeatures: ServerInfo.features(configuration),
            onCrash: { [logger] in
                logger.warning("ComfyUI would have ended here: an event could not be sent")
                connections.closeAll()
            })
        let queue = PromptQueue(lengthChanged: hub.sendStatus)
        let logs = LogBook(hub: hub)
        let services = RunServices(
            compatibility: configuration.compatibility, stepDelay: configuration.stepDelay, previewSize: max(8, configuration.previewSize),
            catalog: catalog, folders: folders, names: FileNames(folders: folders), letters: NodeLetters(), hub: hub, control: RunControl(),
            pictures: BoundedCache(limit: 128 << 20) { $0.pixels.count }, frames: BoundedCache(limit: 64 << 20) { $0.count })
        let workerStopped = loop.makePromise(of: Void.self)
        let worker = Worker(
            queue: queue, services: services, cachePolicy: configuration.cachePolicy, logs: logs, logger: logger,
            stopped: { workerStopped.succeed() })
        let router = Router(configuration: configuration, services: services, queue: queue, logs: logs)
        let channel: any Channel
        do {
            channel = try await Listener(router: router, hub: hub, queue: queue, connections: connections, configuration: configuration)
                .bind(on: group)
        } catch {
            workerStopped.succeed()
            throw error
        }
        worker.start()
        return Running(
            port: channel.localAddress?.port ?? 0, group: group, hub: hub, queue: queue, worker: worker,
            workerStopped: workerStopped.futureResult, directory: folders.root, isDirectoryTemporary: configuration.directory == nil)
    }
}
