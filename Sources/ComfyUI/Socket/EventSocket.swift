package import Logging
package import NIOCore
package import NIOSSL

/// What happens on the event socket.
package enum EventSocketEvent: Sendable {
    /// Handshake done, our flags sent, and the first `status` arrived (which follows as a `message`).
    case connected(sid: String?)
    /// A text frame; `raw` is its text.
    case message(ComfyMessage, raw: String)
    case binary(ComfyBinaryMessage)
    /// A frame that cannot be read; the connection stays.
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
        /// A connection that lived this long starts the back-off anew.
        package var stableAfter: Duration = .seconds(5)
        /// For https endpoints.
        package var tls: TLSConfiguration = .makeClientConfiguration()

        package init(endpoint: ComfyEndpoint, clientID: String) {
            self.endpoint = endpoint
            self.clientID = clientID
        }
    }

    let configuration: Configuration
    let eventLoop: any EventLoop
    let logger: Logger
    let onEvent: @Sendable (EventSocketEvent) -> Void

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

    /// Connects, and connects again with back-off, until the task is cancelled; then says goodbye and returns with the TCP connection closed.
    package func run() async {
        preconditionFailure()
    }

    /// Gives the connection up (the server no longer sends on it) and makes a new one at once. Cuts a back-off short. May be called from anywhere.
    package func reconnectNow() {}
}
