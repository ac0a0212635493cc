import NIOCore
import NIOHTTP1
import NIOPosix
import NIOSSL
import NIOWebSocket
import Synchronization

/// A TCP connection on which the handshake runs.
struct Handshake: Sendable {
    let channel: any Channel
    let upgrade: EventLoopFuture<Upgrade>
}

/// What came of a handshake.
enum Upgrade: Sendable {
    /// A WebSocket; the future tells how it ended.
    case open(EventLoopFuture<AttemptEnding>)
    /// An HTTP answer; the future tells which, once it was read.
    case refused(EventLoopFuture<String>)
}

extension EventSocket {
    /// The pipeline: `ReadWatch`, TLS, then HTTP/1.1 until the upgrade and WebSocket frames after it.
    func connect(_ tls: NIOSSLContext?) async throws -> Handshake {
        let host = configuration.endpoint.host
        return try await ClientBootstrap(group: eventLoop)
            .connectTimeout(TimeAmount(configuration.connectTimeout))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.recvAllocator, value: AdaptiveRecvByteBufferAllocator(minimum: 4 << 10, initial: 64 << 10, maximum: 1 << 20))
            .connect(host: host, port: configuration.endpoint.port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard self.state.withLock({ $0.adopt(channel) }) else { throw ChannelError.alreadyClosed }
                    let pipeline = channel.pipeline.syncOperations
                    let readWatch = ReadWatch()
                    try pipeline.addHandler(readWatch)
                    if let tls { try pipeline.addHandler(NIOSSLClientHandler(context: tls, serverHostname: Self.serverName(host))) }
                    return Handshake(channel: channel, upgrade: try self.upgrade(pipeline, channel.eventLoop, readWatch))
                }
            }
    }

    /// Server Name Indication takes names only; an address is checked against the certificate as it is.
    private static func serverName(_ host: String) -> String? {
        (try? SocketAddress(ipAddress: host, port: 0)) == nil ? host : nil
    }

    private func upgrade(
        _ pipeline: ChannelPipeline.SynchronousOperations, _ eventLoop: any EventLoop, _ readWatch: ReadWatch
    ) throws -> EventLoopFuture<Upgrade> {
        let endpoint = configuration.endpoint
        var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: endpoint.target("/ws", query: [("clientId", configuration.clientID)]))
        head.headers.add(name: "Host", value: endpoint.hostHeader)
        head.headers.add(name: "User-Agent", value: "comfy-bridge")
        for header in endpoint.requestHeaders { head.headers.replaceOrAdd(name: header.name, value: header.value) }

        let boundWatch = NIOLoopBound(readWatch, eventLoop: eventLoop)
        let upgrader = NIOTypedWebSocketClientUpgrader<Opening>(
            maxFrameSize: configuration.maximumFrameSize, enableAutomaticErrorHandling: false
        ) { channel, _ in
            channel.eventLoop.makeCompletedFuture {
                let ended = channel.eventLoop.makePromise(of: AttemptEnding.self)
                let handler = FrameHandler(self.configuration, boundWatch.value, ended: ended, logger: self.logger, onEvent: self.onEvent)
                let aggregator = NIOWebSocketFrameAggregator(
                    minNonFinalFragmentSize: 0, maxAccumulatedFrameCount: 1 << 18, maxAccumulatedFrameSize: self.configuration.maximumFrameSize)
                do {
                    try channel.pipeline.syncOperations.addHandlers(aggregator, handler)
                } catch {
                    ended.fail(error)
                    throw error
                }
                return .webSocket(FrameLink(handler, eventLoop: channel.eventLoop), ended.futureResult)
            }
        }
        let upgrade = NIOTypedHTTPClientUpgradeConfiguration<Opening>(upgradeRequestHead: head, upgraders: [upgrader]) { channel in
            channel.eventLoop.makeCompletedFuture {
                let answered = channel.eventLoop.makePromise(of: String.self)
                do {
                    try channel.pipeline.syncOperations.addHandler(RefusalHandler(answered))
                } catch {
                    answered.fail(error)
                    throw error
                }
                return .http(answered.futureResult)
            }
        }
        var pipelineConfiguration = NIOUpgradableHTTPClientPipelineConfiguration(upgradeConfiguration: upgrade)
        pipelineConfiguration.leftOverBytesStrategy = .forwardBytes  // the first status often comes in one packet with the 101
        return try pipeline.configureUpgradableHTTPClientPipeline(configuration: pipelineConfiguration).map { opening in
            switch opening {
            case .http(let answer): return .refused(answer)
            case .webSocket(let link, let ended):
                // Still on the loop, and before the first frame is delivered: our flags are the first message.
                link.start()
                if !self.state.withLock({ $0.opened(link) }) { link.sayGoodbye(Self.stop) }
                return .open(ended)
            }
        }
    }

    private enum Opening: Sendable {
        case webSocket(FrameLink, EventLoopFuture<AttemptEnding>)
        case http(EventLoopFuture<String>)
    }
}

/// A connection's `FrameHandler`, reachable from other threads.
struct FrameLink: Sendable {
    private let handler: NIOLoopBound<FrameHandler>
    private let eventLoop: any EventLoop

    init(_ handler: FrameHandler, eventLoop: any EventLoop) {
        self.handler = NIOLoopBound(handler, eventLoop: eventLoop)
        self.eventLoop = eventLoop
    }

    /// On the event loop only.
    func start() { handler.value.start() }

    func sayGoodbye(_ reason: String) {
        if eventLoop.inEventLoop {
            handler.value.sayGoodbye(reason)
        } else {
            eventLoop.execute { handler.value.sayGoodbye(reason) }
        }
    }
}

/// Reads the HTTP answer that came instead of an upgrade, and closes.
private final class RefusalHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    private let answered: EventLoopPromise<String>
    private var status = "an incomplete answer"
    private var code = 0
    private var bodyStart: [UInt8] = []
    private static let limit = 512

    init(_ answered: EventLoopPromise<String>) { self.answered = answered }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch Self.unwrapInboundIn(data) {
        case .head(let head):
            code = Int(head.status.code)
            status = "\(head.status.code) \(head.status.reasonPhrase.prefix(100))"
            if let location = head.headers.first(name: "Location") { status += " to \(location.prefix(200))" }
        case .body(let body):
            bodyStart += body.readableBytesView.prefix(Self.limit - bodyStart.count)
            if bodyStart.count >= Self.limit { finish(context) }
        case .end: finish(context)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        finish(context)
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) { finish(context) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { finish(context) }

    private func finish(_ context: ChannelHandlerContext) {
        let page = String(decoding: bodyStart, as: UTF8.self)
        let text = PageText.words(page)
        answered.succeed(ComfyUIError.refusal(status: code, page: page) ?? "the server refused the WebSocket: \(status)\(text.isEmpty ? "" : ": \(text)")")
        context.close(promise: nil)
    }
}
