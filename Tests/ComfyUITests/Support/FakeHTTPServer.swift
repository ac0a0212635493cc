import AsyncHTTPClient
import ComfyUI
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import Synchronization

/// A server whose answers are written byte by byte as the test says.
final class FakeHTTPServer: Sendable {
    struct Request: Sendable {
        let method: String
        let uri: String
        let headers: HTTPHeaders
        let body: ByteBuffer
    }

    enum Reply: Sendable {
        case answer(_ status: Int, _ body: String = "", contentType: String? = "application/json; charset=utf-8", headers: [(String, String)] = [])
        case bytes(_ status: Int, _ body: [UInt8], headers: [(String, String)] = [])
        /// Exactly these bytes; then the connection is closed.
        case raw(String)
        /// These bytes, and nothing more, for ever.
        case stall(String)
        case stallBytes([UInt8])
        /// A 200 of unknown length that never ends, as fast as the client takes it.
        case endless(status: Int)
    }

    enum Event: Sendable {
        case request(Request)
        case closed
    }

    /// Requests and ends of connections, in order.
    let events = Inbox<Event>()
    let port: Int
    private let channel: any Channel

    var url: String { "http://127.0.0.1:\(port)" }

    private init(channel: any Channel, port: Int) {
        self.channel = channel
        self.port = port
    }

    func nextRequest() async throws -> Request {
        try await events.first { if case .request(let request) = $0 { request } else { nil } }
    }

    func nextClose() async throws {
        try await events.first { if case .closed = $0 { () } else { nil } }
    }

    /// Runs `body` with a server that answers each request with what `respond` returns, or its head with what `early` returns.
    static func with<Result>(
        tls: NIOSSLContext? = nil, early: @escaping @Sendable (HTTPRequestHead) -> Reply? = { _ in nil },
        respond: @escaping @Sendable (Request) -> Reply, _ body: (FakeHTTPServer) async throws -> Result
    ) async throws -> Result {
        let inbox = Mutex<FakeHTTPServer?>(nil)
        let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let tls { try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: tls)) }
                    try channel.pipeline.syncOperations.addHandlers(
                        ByteToMessageHandler(HTTPRequestDecoder()),
                        Handler(early: early, respond: respond, onEvent: { event in inbox.withLock { $0 }?.events.put(event) }))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let server = FakeHTTPServer(channel: channel, port: channel.localAddress!.port!)
        inbox.withLock { $0 = server }
        do {
            let result = try await body(server)
            try await channel.close()
            return result
        } catch {
            try await channel.close()
            throw error
        }
    }

    /// Runs `body` with such a server and a client for it.
    static func withClient<Result>(
        requestTimeout: Duration = .seconds(30), path: String = "", respond: @escaping @Sendable (Request) -> Reply,
        _ body: (ComfyUIClient, FakeHTTPServer) async throws -> Result
    ) async throws -> Result {
        try await with(respond: respond) { server in
            try await withComfyUIClient(server.url + path, requestTimeout: requestTimeout) { client in try await body(client, server) }
        }
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = HTTPServerRequestPart
        typealias OutboundOut = ByteBuffer

        private let early: @Sendable (HTTPRequestHead) -> Reply?
        private let respond: @Sendable (Request) -> Reply
        private let onEvent: @Sendable (Event) -> Void
        private var head: HTTPRequestHead?
        private var body = ByteBuffer()

        init(
            early: @escaping @Sendable (HTTPRequestHead) -> Reply?, respond: @escaping @Sendable (Request) -> Reply,
            onEvent: @escaping @Sendable (Event) -> Void
        ) {
            self.early = early
            self.respond = respond
            self.onEvent = onEvent
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch Self.unwrapInboundIn(data) {
            case .head(let head):
                (self.head, body) = (head, ByteBuffer())
                if let reply = early(head) {
                    self.head = nil
                    send(reply, to: head.method, context)
                }
            case .body(var part): body.writeBuffer(&part)
            case .end:
                guard let head else { return }
                let request = Request(method: head.method.rawValue, uri: head.uri, headers: head.headers, body: body)
                onEvent(.request(request))
                send(respond(request), to: head.method, context)
            }
        }

        func channelInactive(context: ChannelHandlerContext) { onEvent(.closed) }

        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

        private func send(_ reply: Reply, to method: HTTPMethod, _ context: ChannelHandlerContext) {
            switch reply {
            case .answer(let status, let body, let contentType, let headers):
                let all = (contentType.map { [("Content-Type", $0)] } ?? []) + headers
                write(status, all, method == .HEAD ? [] : Array(body.utf8), body.utf8.count, context)
            case .bytes(let status, let body, let headers): write(status, headers, method == .HEAD ? [] : body, body.count, context)
            case .raw(let text):
                let channel = context.channel
                context.writeAndFlush(Self.wrapOutboundOut(ByteBuffer(string: text))).whenComplete { _ in channel.close(promise: nil) }
            case .stall(let text): context.writeAndFlush(Self.wrapOutboundOut(ByteBuffer(string: text)), promise: nil)
            case .stallBytes(let bytes): context.writeAndFlush(Self.wrapOutboundOut(ByteBuffer(bytes: bytes)), promise: nil)
            case .endless(let status):
                let head = "HTTP/1.1 \(status) Whatever\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n["
                context.writeAndFlush(Self.wrapOutboundOut(ByteBuffer(string: head)), promise: nil)
                Self.writeForEver(context.channel, ByteBuffer(repeating: UInt8(ascii: " "), count: 1 << 18))
            }
        }

        private func write(_ status: Int, _ headers: [(String, String)], _ body: [UInt8], _ length: Int, _ context: ChannelHandlerContext) {
            var text = "HTTP/1.1 \(status) Whatever\r\n"
            for (name, value) in headers where name.lowercased() != "content-length" && name.lowercased() != "transfer-encoding" {
                text += "\(name): \(value)\r\n"
            }
            if status != 304 { text += "Content-Length: \(length)\r\n" }
            var buffer = ByteBuffer(string: text + "\r\n")
            if status != 304 { buffer.writeBytes(body) }
            context.writeAndFlush(Self.wrapOutboundOut(buffer), promise: nil)
        }

        private static func writeForEver(_ channel: any Channel, _ piece: ByteBuffer) {
            channel.writeAndFlush(piece).whenSuccess { writeForEver(channel, piece) }
        }
    }
}

/// Runs `body` with a client, and shuts its connections down after it.
func withComfyUIClient<Result>(
    _ url: String, requestTimeout: Duration = .seconds(30), tls: TLSConfiguration? = nil, _ body: (ComfyUIClient) async throws -> Result
) async throws -> Result {
    let endpoint = try ComfyEndpoint(url)
    let http = HTTPClient(eventLoopGroup: MultiThreadedEventLoopGroup.singleton, configuration: ComfyUIClient.httpClientConfiguration(tls: tls))
    let client = ComfyUIClient(endpoint: endpoint, httpClient: http, logger: .silent, requestTimeout: requestTimeout)
    do {
        let result = try await body(client)
        try await http.shutdown()
        return result
    } catch {
        try await http.shutdown()
        throw error
    }
}

/// A port that nobody listens on.
func unusedPort() async throws -> Int {
    let channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton).bind(host: "127.0.0.1", port: 0).get()
    let port = channel.localAddress!.port!
    try await channel.close()
    return port
}
