import Glibc
import Logging
import NIOCore
import Synchronization

/// What a start of the process makes and its end forgets: sockets, queue, history, caches, the worker's thread.
///
/// Everything but `init` on the event loop.
final class Instance: Sendable {
    private enum Listening {
        case not
        case on(any Channel)
        case ended
    }

    let hub: EventHub
    private let loop: any EventLoop
    private let queue: PromptQueue
    private let worker: Worker
    private let connections: Connections
    private let listener: Listener
    private let logger: Logger
    private let workerStopped: EventLoopPromise<Void>
    private let listening = Mutex(Listening.not)

    /// Nobody listens yet, nothing runs.
    ///
    /// - Throws: when the folders cannot be made.
    init(
        configuration: ComfySimulator.Configuration, directory: String, catalog: NodeCatalog, switches: FaultSwitches, tally: Tally,
        loop: any EventLoop, logger: Logger, perform: @escaping @Sendable (ComfySimulator.Action) -> EventLoopFuture<Void>
    ) throws {
        self.loop = loop
        self.logger = logger
        let folders = try Folders(root: directory)
        let hub = EventHub(
            loop: loop, serverFeatures: ServerInfo.features(configuration), tally: tally,
            onCrash: {
                logger.warning("ComfyUI ends here: an event could not be sent")
                _ = perform(.exit)
            })
        let queue = PromptQueue(tally: tally, lengthChanged: hub.sendStatus)
        let logs = LogBook(hub: hub)
        let services = RunServices(
            compatibility: configuration.compatibility, stepDelay: configuration.stepDelay, previewSize: max(8, configuration.previewSize),
            previewBytes: configuration.previewBytes, catalog: catalog, folders: folders, names: FileNames(folders: folders), letters: NodeLetters(), hub: hub, control: RunControl(),
            faults: FaultPoints(
                switches: switches, hub: hub, loop: loop, tally: tally, maximumUploadSize: configuration.maximumUploadSize, perform: perform),
            pictures: BoundedCache(limit: 128 << 20) { $0.pixels.count }, frames: BoundedCache(limit: 64 << 20) { $0.count })
        let workerStopped = loop.makePromise(of: Void.self)
        let connections = Connections()
        let router = Router(configuration: configuration, services: services, queue: queue, logs: logs)
        self.hub = hub
        self.queue = queue
        self.connections = connections
        self.workerStopped = workerStopped
        worker = Worker(
            queue: queue, services: services, cachePolicy: configuration.cachePolicy, logs: logs, logger: logger,
            stopped: { workerStopped.succeed() })
        listener = Listener(router: router, hub: hub, queue: queue, connections: connections, configuration: configuration)
    }

    /// Listens, and then lets prompts run.
    ///
    /// - Returns: the bound port.
    func start(port: Int, retries: Bool) -> EventLoopFuture<Int> {
        let bound = listen(port: port, retries: retries)
        bound.whenSuccess { _ in self.worker.start() }
        bound.whenFailure { _ in self.workerStopped.succeed() }
        return bound
    }

    /// - Parameter retries: whether to try until it works; somebody's outgoing connection may have the port for a moment.
    private func listen(port: Int, retries: Bool, isRetry: Bool = false) -> EventLoopFuture<Int> {
        listener.bind(on: loop, port: port).flatMap { channel in
            let isWanted = self.listening.withLock { listening in
                if case .ended = listening { return false }
                listening = .on(channel)
                return true
            }
            guard isWanted else { return channel.close().flatMapThrowing { throw ChannelError.alreadyClosed } }
            return self.loop.makeSucceededFuture(channel.localAddress?.port ?? 0)
        }.flatMapError { error in
            guard retries, !self.hasEnded else { return self.loop.makeFailedFuture(error) }
            let reason = (error as? IOError).map { String(cString: strerror($0.errnoCode)).lowercased() } ?? "\(error)"
            self.logger.log(
                level: isRetry ? .debug : .warning, "the port cannot be had; trying again",
                metadata: ["server.port": .stringConvertible(port), "error": "\(reason)"])
            return self.loop.flatScheduleTask(in: .milliseconds(50)) { self.listen(port: port, retries: true, isRetry: true) }.futureResult
        }
    }

    private var hasEnded: Bool { listening.withLock { if case .ended = $0 { true } else { false } } }

    /// Nobody listens for a while. Done when that is so.
    func refuse(for time: TimeAmount) -> EventLoopFuture<Void> {
        let channel = listening.withLock { listening -> (any Channel)? in
            guard case .on(let channel) = listening else { return nil }
            listening = .not
            return channel
        }
        guard let channel, let port = channel.localAddress?.port else { return loop.makeSucceededVoidFuture() }
        loop.scheduleTask(in: time) {
            guard !self.hasEnded else { return }
            _ = self.listen(port: port, retries: true)
        }
        return channel.close()
    }

    func killWorker() { worker.die() }

    /// As when a process is killed: runs are abandoned, connections drop. Done when the worker's thread has ended.
    func kill() -> EventLoopFuture<Void> {
        let channel = listening.withLock { listening -> (any Channel)? in
            defer { listening = .ended }
            return if case .on(let channel) = listening { channel } else { nil }
        }
        channel?.close(promise: nil)  // first, so that nobody who hears of the end gets in again
        queue.close()
        worker.stop()
        connections.closeAll()
        return workerStopped.futureResult
    }
}
