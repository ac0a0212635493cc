import FoundationEssentials
package import Logging
import NIOCore
import NIOPosix
import ServiceLifecycle
import Synchronization

/// A ComfyUI look-alike that runs real graphs over the real protocol and makes no pictures worth keeping.
///
/// One event loop answers HTTP and serves the sockets, one thread runs prompts, as in ComfyUI; everything but files is in memory.
/// What it promises is in docs/comfyui-protocol.md: order of messages, who gets them, wording of errors, and the traps.
package final class ComfySimulator: Service {
    private enum State {
        case new
        case starting
        case up(Machine, Instance)
        /// The process has ended, and will be back by itself.
        case away(Machine)
        /// The process has ended.
        case down(Machine)
        case stopped

        var parts: (machine: Machine?, instance: Instance?) {
            switch self {
            case .up(let machine, let instance): (machine, instance)
            case .away(let machine), .down(let machine): (machine, nil)
            case .new, .starting, .stopped: (nil, nil)
            }
        }
    }

    /// What stays when the process ends.
    private struct Machine {
        let port: Int
        let group: MultiThreadedEventLoopGroup
        let loop: any EventLoop
        let catalog: NodeCatalog
        let directory: String
        /// The directory is the simulator's own and goes with it.
        let isTemporary: Bool
    }

    /// The process ended by a fault and does not come back.
    package struct Killed: Error, CustomStringConvertible {
        package let description = "the simulated ComfyUI was killed by a fault (see --restart-after)"
    }

    /// What is to go wrong. `perform` makes something go wrong now.
    package let faults: FaultSwitches
    private let configuration: Configuration
    private let logger: Logger
    private let state = Mutex(State.new)
    private let changes = Changes()
    private let tally: Tally
    /// Finished when the process has ended for good.
    private let life = AsyncStream.makeStream(of: Never.self, bufferingPolicy: .bufferingOldest(1))

    package init(configuration: Configuration, logger: Logger) {
        self.configuration = configuration
        self.logger = logger
        tally = Tally(changes: changes)
        faults = FaultSwitches(seed: configuration.faultSeed, changes: changes)
        for order in configuration.faults { faults.arm(order) }
    }

    /// What happened since the simulator was made, over all restarts.
    package var statistics: Statistics {
        Statistics(
            prompts: tally.prompts, framesSent: tally.framesSent, faultsFired: faults.fired, nodesBegun: tally.nodesBegun,
            requests: tally.requests)
    }

    /// Waits until the condition holds of what happened. It is looked at now, and whenever one of the figures has changed.
    ///
    /// - Throws: `CancellationError`, and what the condition throws.
    package func until(_ condition: (Statistics) async throws -> Bool) async throws {
        try await changes.until { try await condition(statistics) }
    }

    /// Where the folders input, output and temp are; nil before the start and after the stop.
    package var directory: String? { state.withLock { $0.parts.machine?.directory } }

    /// Binds, listens and serves. A simulator starts once; what restarts is the process that it simulates.
    ///
    /// - Returns: the bound port, which stays through restarts.
    package func start() async throws -> Int {
        let isNew = state.withLock { state in
            guard case .new = state else { return false }
            state = .starting
            return true
        }
        precondition(isNew, "a simulator starts once")
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let directory = Folders.normalized(configuration.directory ?? FileManager.default.temporaryDirectory.path + "/comfy-simulator-" + UUID().uuidString)
        let catalog = NodeCatalog(compatibility: configuration.compatibility, checkpoints: configuration.checkpoints)
        do {
            let instance = try makeInstance(directory: directory, catalog: catalog, loop: group.next())
            let port = try await instance.start(port: configuration.port, retries: false).get()
            let machine = Machine(
                port: port, group: group, loop: group.next(), catalog: catalog, directory: directory, isTemporary: configuration.directory == nil)
            state.withLock { $0 = .up(machine, instance) }
            logger.info("simulated ComfyUI listens", metadata: ["server.port": .stringConvertible(port)])
            return port
        } catch {
            state.withLock { $0 = .stopped }
            try? await group.shutdownGracefully()
            if configuration.directory == nil { try? FileManager.default.removeItem(atPath: directory) }
            throw error
        }
    }

    /// Starts if needed and serves until graceful shutdown or cancellation, then stops.
    ///
    /// - Throws: `Killed` when a fault ends the process for good.
    package func run() async throws {
        let isNew = state.withLock { state in if case .new = state { true } else { false } }
        if isNew { _ = try await start() }
        let life = life.stream
        await cancelWhenGracefulShutdown { for await _ in life {} }
        let wasKilled = state.withLock { state in if case .down = state { true } else { false } }
        await stop()
        if wasKilled, !Task.isCancelled { throw Killed() }
    }

    /// Ends like a killed process: running prompts are abandoned, sockets drop without a close frame.
    package func stop() async {
        let (machine, instance) = state.withLock { state in
            let parts = state.parts
            if parts.machine != nil { state = .stopped }
            return parts
        }
        guard let machine else { return }
        if let instance { try? await machine.loop.flatSubmit { instance.kill() }.get() }
        do {
            try await machine.group.shutdownGracefully()
        } catch {
            logger.warning("the simulator's event loop did not stop", metadata: ["error": "\(error)"])
        }
        if machine.isTemporary { try? FileManager.default.removeItem(atPath: machine.directory) }
    }

    private func makeInstance(directory: String, catalog: NodeCatalog, loop: any EventLoop) throws -> Instance {
        try Instance(
            configuration: configuration, directory: directory, catalog: catalog, switches: faults, tally: tally, loop: loop, logger: logger,
            perform: { [weak self] action in self?.schedule(action) ?? loop.makeFailedFuture(NotUp()) })
    }
}

// MARK: Things that go wrong now

extension ComfySimulator {
    /// The process has ended, or never began.
    package struct NotUp: Error, CustomStringConvertible {
        package let description = "the simulator is not running"
    }

    /// Makes something go wrong now.
    ///
    /// Returns when it has: after a `restart` when the simulator listens again, after `exit` and `refuse` when nobody listens any more.
    ///
    /// - Throws: `NotUp`.
    package func perform(_ action: Action) async throws {
        guard let future = schedule(action) else { throw NotUp() }
        try await future.get()
    }

    /// From the next turn of the event loop on, so that an answer gets out before. Nil when there is no process.
    private func schedule(_ action: Action) -> EventLoopFuture<Void>? {
        let (machine, instance) = state.withLock { $0.parts }
        guard let machine else { return nil }
        // A scheduled task, unlike an executed one, fails when the loop stops before its turn.
        return machine.loop.flatScheduleTask(in: .zero) { self.perform(action, machine, instance) }.futureResult
    }

    private func perform(_ action: Action, _ machine: Machine, _ instance: Instance?) -> EventLoopFuture<Void> {
        switch action {
        case .cut:
            instance?.hub.disruptNow(.cut, .all)
            instance?.hub.noticeVanished()
        case .mute: instance?.hub.disruptNow(.mute, .all)
        case .halfOpen: instance?.hub.disruptNow(.halfOpen, .all)
        case .noticeHalfOpen: instance?.hub.noticeVanished()
        case .deadWorker: instance?.killWorker()
        case .refuse(let time): if let instance { return instance.refuse(for: TimeAmount(time)) }
        case .exit:
            return end(instance, machine).map {
                if let delay = self.configuration.restartDelay {
                    _ = self.comeBack(machine, after: delay, keepsFiles: true)
                } else {
                    self.life.continuation.finish()
                }
            }
        case .restart(let delay, let keepsFiles):
            return end(instance, machine).flatMap { self.comeBack(machine, after: delay, keepsFiles: keepsFiles) }
        }
        return machine.loop.makeSucceededVoidFuture()
    }

    /// Done when the process has ended; at once when it had before.
    private func end(_ instance: Instance?, _ machine: Machine) -> EventLoopFuture<Void> {
        guard let instance else { return machine.loop.makeSucceededVoidFuture() }
        state.withLock { state in
            if case .up(_, let current) = state, current === instance { state = .down(machine) }
        }
        logger.info("the simulated ComfyUI ends, as if killed")
        return instance.kill()
    }

    /// Done when it listens again; at once when it is up or somebody else has it come back.
    private func comeBack(_ machine: Machine, after delay: Duration, keepsFiles: Bool) -> EventLoopFuture<Void> {
        let isDown = state.withLock { state in
            guard case .down = state else { return false }
            state = .away(machine)
            return true
        }
        guard isDown else { return machine.loop.makeSucceededVoidFuture() }
        let back = machine.loop.flatScheduleTask(in: TimeAmount(delay)) { () throws -> EventLoopFuture<Void> in
            if !keepsFiles, machine.isTemporary { try FileManager.default.removeItem(atPath: machine.directory) }
            let instance = try self.makeInstance(directory: machine.directory, catalog: machine.catalog, loop: machine.loop)
            return instance.start(port: machine.port, retries: true).flatMap { _ in
                let isWanted = self.state.withLock { state in
                    guard case .away = state else { return false }
                    state = .up(machine, instance)
                    return true
                }
                return isWanted ? machine.loop.makeSucceededVoidFuture() : instance.kill()
            }
        }.futureResult
        back.whenSuccess { self.logger.info("the simulated ComfyUI is back") }
        back.whenFailure { error in
            let isDown = self.state.withLock { state in
                guard case .away = state else { return false }
                state = .down(machine)
                return true
            }
            guard isDown else { return }  // stopped meanwhile
            self.logger.error("the simulated ComfyUI does not come back", metadata: ["error": "\(error)"])
            self.life.continuation.finish()
        }
        return back
    }
}
