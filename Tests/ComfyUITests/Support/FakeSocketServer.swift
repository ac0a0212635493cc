import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOWebSocket
import Synchronization

/// A `/ws` that says what the test says. Its events, of all connections, come in order into one inbox.
final class FakeSocketServer: Sendable {
    enum Event: Sendable {
        case opened(Connection)
        case text(String)
        /// A close frame with its code.
        case closeFrame(UInt16?)
        case ping(ByteBuffer)
        case pong(ByteBuffer)
        /// The TCP connection has ended.
        case closed(Int)
    }

    struct Options: Sendable {
        /// What is sent at once after the handshake.
        var greeting: [String] = [#"{"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 0}}, "sid": "me"}}"#]
        var answersPings = true
        var answersClose = true
        var tls: NIOSSLContext?
    }

    /// One connection, seen from the server.
    final class Connection: Sendable {
        /// Counts from 1.
        let number: Int
        let head: HTTPRequestHead
        let channel: any Channel

        init(number: Int, head: HTTPRequestHead, channel: any Channel) {
            self.number = number
            self.head = head
            self.channel = channel
        }

        func send(_ text: String) async throws { try await send(.text, ByteBuffer(string: text)) }

        func send(_ opcode: WebSocketOpcode, _ data: ByteBuffer, fin: Bool = true, rsv1: Bool = false) async throws {
            try await channel.writeAndFlush(WebSocketFrame(fin: fin, rsv1: rsv1, opcode: opcode, data: data))
        }

        /// Ends the TCP connection without a close frame.
        func drop() async throws { try await channel.close() }
    }

    let events = Inbox<Event>()
    let port: Int
    private let openConnections = Mutex(0)
    private let mostConnections = Mutex(0)

    /// The most connections that were open at one time.
    var mostConnectionsAtOnce: Int { mostConnections.withLock { $0 } }

    private init(port: Int) { self.port = port }

    func nextConnection() async throws -> Connection {
        try await events.first { if case .opened(let connection) = $0 { connection } else { nil } }
    }

    func nextText() async throws -> String {
        try await events.first { if case .text(let text) = $0 { text } else { nil } }
    }

    /// The code of the next close frame; 0 for one without.
    func nextCloseFrame() async throws -> UInt16 {
        try await events.first { if case .closeFrame(let code) = $0 { code ?? 0 } else { nil } }
    }

    func nextPing() async throws {
        try await events.first { if case .ping = $0 { () } else { nil } }
    }

    /// The number of the next connection that has ended.
    func nextClosed() async throws -> Int {
        try await events.first { if case .closed(let number) = $0 { number } else { nil } }
    }

    static func with<Result>(_ options: Options = Options(), _ body: (FakeSocketServer) async throws -> Result) async throws -> Result {
        let box = Mutex<FakeSocketServer?>(nil)
        let count = Mutex(0)
        // One thread, so that what happens on two connections is seen in its order.
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let channel = try await ServerBootstrap(group: group)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                let upgrader = NIOWebSocketServerUpgrader(
                    maxFrameSize: 1 << 20, shouldUpgrade: { channel, _ in channel.eventLoop.makeSucceededFuture([:]) }
                ) { channel, head in
                    channel.eventLoop.makeCompletedFuture {
                        let connection = Connection(
                            number: count.withLock {
                                $0 += 1; return $0
                            }, head: head, channel: channel)
                        try channel.pipeline.syncOperations.addHandler(
                            Handler(connection, box.withLock { $0! }, options))
                    }
                }
                return channel.eventLoop.makeCompletedFuture {
                    if let tls = options.tls { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls)) }
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline(
                        withServerUpgrade: (upgraders: [upgrader], completionHandler: { _ in }))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let server = FakeSocketServer(port: channel.localAddress!.port!)
        box.withLock { $0 = server }
        do {
            let result = try await body(server)
            try await group.shutdownGracefully()
            return result
        } catch {
            try await group.shutdownGracefully()
            throw error
        }
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = WebSocketFrame
        typealias OutboundOut = WebSocketFrame

        private let connection: Connection
        private let server: FakeSocketServer
        private let options: Options

        init(_ connection: Connection, _ server: FakeSocketServer, _ options: Options) {
            self.connection = connection
            self.server = server
            self.options = options
        }

        func handlerAdded(context: ChannelHandlerContext) {
            let open = server.openConnections.withLock {
                $0 += 1; return $0
            }
            server.mostConnections.withLock { $0 = max($0, open) }
            server.events.put(.opened(connection))
            for text in options.greeting { send(.text, ByteBuffer(string: text), context) }
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let frame = Self.unwrapInboundIn(data)
            guard frame.maskKey != nil else { return server.events.put(.text("a frame without a mask")) }
            var payload = frame.unmaskedData
            switch frame.opcode {
            case .text: server.events.put(.text(String(buffer: payload)))
            case .ping:
                server.events.put(.ping(payload))
                if options.answersPings { send(.pong, payload, context) }
            case .pong: server.events.put(.pong(payload))
            case .connectionClose:
                server.events.put(.closeFrame(payload.readInteger(as: UInt16.self)))
                guard options.answersClose else { return }
                send(.connectionClose, frame.unmaskedData, context)
                context.close(promise: nil)
            default: server.events.put(.text("opcode \(frame.opcode)"))
            }
        }

        func channelInactive(context: ChannelHandlerContext) {
            server.openConnections.withLock { $0 -= 1 }
            server.events.put(.closed(connection.number))
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        private func send(_ opcode: WebSocketOpcode, _ data: ByteBuffer, _ context: ChannelHandlerContext) {
            context.writeAndFlush(Self.wrapOutboundOut(WebSocketFrame(fin: true, opcode: opcode, data: data)), promise: nil)
        }
    }
}
