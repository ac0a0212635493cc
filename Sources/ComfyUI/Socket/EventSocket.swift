package import Logging
package import NIOCore
package import NIOSSL
import NIOPosix
import Synchronization

/// What happens on the event socket.
package enum EventSocketEvent: Sendable {
    /// Handshake done, our flags sent, and the first `status` arrived (which follows as a `message`).
    case connected(sid: String?)
    /// A text frame; `raw` is its text.
    case message(ComfyMessage, raw: String)
    case binary(ComfyBinaryMessage)
    /// Another part of a message has arrived, which is not complete: what the server says after it waits behind it. After each burst of reads.
    case receiving
    /// A frame that cannot be read, which is logged; the connection stays.
    case undecodable(reason: String)
    /// The connection, or the attempt to make one, has ended and its TCP connection is closed. Once per attempt, also without a `connected`.
    case disconnected(reason: String)
}

/// One `/ws` connection that is made again whenever it breaks.
package final class EventSocket: Sendable {
    package struct Configuration: Sendable {
        package var endpoint: ComfyEndpoint
        /// Kept over reconnects: a prompt's events follow the id it was submitted with.
        package var clientID: String
        package var pingInterval: Duration = .seconds(10)
        /// How long after a ping something must arrive.
        package var pongTimeout: Duration = .seconds(10)
        /// For each of: TCP connection, handshake (with TLS), first `status`.
        package var connectTimeout: Duration = .seconds(10)
        /// How long the server may take to answer our close frame before the TCP connection is closed all the same.
        package var closeTimeout: Duration = .seconds(2)
        /// Bytes of one message, fragmented or not; at most 2³²-1.
        package var maximumFrameSize = 256 << 20
        package var backoff = Backoff()
        /// The longest pause while somebody waits for the connection.
        package var longestAwaitedPause: Duration = .seconds(2)
        /// Whether somebody does. Called at the beginning of a pause.
        package var isAwaited: @Sendable () -> Bool = { false }
        /// A connection that lived this long, or carried a prompt's messages, starts the back-off anew.
        package var stableAfter: Duration = .seconds(5)
        /// For https endpoints.
        package var tls: TLSConfiguration = .makeClientConfiguration()

        package init(endpoint: ComfyEndpoint, clientID: String) {
            self.endpoint = endpoint
            self.clientID = clientID
        }
    }

    let configuration: Configuration
    package let eventLoop: any EventLoop
    let logger: Logger
    let onEvent: @Sendable (EventSocketEvent) -> Void
    let state = Mutex(EventSocketState())
    private let lastBreak = Mutex<ContinuousClock.Instant?>(nil)

    /// - Parameters:
    ///   - eventLoopGroup: one loop of it carries the socket; it must outlive `run()`.
    ///   - onEvent: called on that loop, in the order of arrival. Must not block: nothing is read meanwhile.
    package init(
        configuration: Configuration, eventLoopGroup: any EventLoopGroup, logger: Logger, onEvent: @escaping @Sendable (EventSocketEvent) -> Void
    ) {
        self.configuration = configuration
        self.eventLoop = eventLoopGroup.next()
        self.logger = logger
        self.onEvent = onEvent
    }

    /// Connects, and connects again with back-off, until the task is cancelled; then sends a close frame, waits for the end (at most `closeTimeout`)
    /// and returns with the TCP connection closed. Every TCP connection is closed before the next is opened (the reconnect trap, protocol section 9).
    /// Call once.
    package func run() async {
        await withTaskCancellationHandler {
            await live()
        } onCancel: {
            perform(state.withLock { $0.stop() })
        }
    }

    /// Gives the connection up (the server no longer sends on it) and makes a new one at once. Cuts a back-off short. May be called from anywhere.
    package func reconnectNow() {
        perform(state.withLock { $0.reconnectNow() })
    }

    /// Somebody waits for the connection from now on: cuts a back-off short. An attempt under way, and a connection, stay as they are. However often
    /// it is called, attempts are as far apart as the shortest back-off. May be called from anywhere.
    package func connectNow() {
        perform(state.withLock { $0.connectNow() })
    }

    /// Why a connection ended that `reconnectNow` gave up, or the end of `run`.
    package static let (replacement, stop) = ("a new connection was asked for", "stopped")

    /// When a connection ended last of whose end the server may not know. When it notices, it forgets the connection that there is now, too
    /// (the reconnect trap, protocol section 9).
    package var lastUnnoticedEnd: ContinuousClock.Instant? { lastBreak.withLock { $0 } }

    private func live() async {
        let tls = makeTLSContext()
        var backoff = configuration.backoff
        while state.withLock({ $0.beginAttempt() }) {
            let start = ContinuousClock.now
            let ending = await attempt(tls)
            state.withLock { $0.ended() }
            if ending.wasConnected, !ending.isKnownToServer { lastBreak.withLock { $0 = .now } }
            logger.debug(
                "the connection of the event socket has ended", metadata: ["comfyui": "\(configuration.endpoint)", "reason": "\(ending.reason)"])
            do {
                try await eventLoop.submit { [onEvent] in onEvent(.disconnected(reason: ending.reason)) }.get()
            } catch {
                return logger.debug("the event loop has gone", metadata: ["error": "\(NetworkWords.of(error))"])
            }
            if ending.wasConnected, ending.hasServed || start.duration(to: .now) >= configuration.stableAfter { backoff.reset() }
            if await pause(backoff.next(atMost: configuration.isAwaited() ? configuration.longestAwaitedPause : nil)) == .hurried { backoff.reset() }
        }
    }

    private enum PauseEnd { case over, hurried }

    /// Waits before the next attempt, unless told to hurry or to stop.
    private func pause(_ delay: Duration) async -> PauseEnd {
        let woken = eventLoop.makePromise(of: PauseEnd.self)
        let timer = eventLoop.scheduleTask(in: TimeAmount(delay)) { woken.succeed(.over) }
        let earliest = NIODeadline.now() + TimeAmount(min(delay, configuration.backoff.minimum))
        let pause = EventSocketState.Pause(
            end: { woken.succeed(.hurried) }, hurry: { [eventLoop] in eventLoop.scheduleTask(deadline: earliest) { woken.succeed(.hurried) } })
        switch state.withLock({ $0.beginPause(pause) }) {
        case .wait: break
        case .waitShortly: pause.hurry()
        case .hurry: woken.succeed(.hurried)
        case .stop: woken.succeed(.over)
        }
        timer.futureResult.whenFailure { _ in woken.succeed(.over) }  // cancelled, or the loop has gone
        let end = (try? await woken.futureResult.get()) ?? .over
        timer.cancel()
        state.withLock { $0.endPause() }
        return end
    }

    private func perform(_ action: EventSocketState.Action) {
        switch action {
        case .none: break
        case .close(let channels): for channel in channels { channel.close(promise: nil) }
        case .sayGoodbye(let link, let reason): link.sayGoodbye(reason)
        case .wake(let pause): pause.end()
        case .hurry(let pause): pause.hurry()
        }
    }
}
