import FoundationEssentials
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket
import Synchronization

/// All open channels, so that a crash can drop them.
final class Connections: Sendable {
    private let channels = Mutex<[ObjectIdentifier: any Channel]>([:])

    func add(_ channel: any Channel) {
        let id = ObjectIdentifier(channel)
        channels.withLock { $0[id] = channel }
        channel.closeFuture.whenComplete { _ in self.channels.withLock { $0[id] = nil } }
    }

    /// As when the process ends: no goodbye, and nobody listens any more.
    func closeAll() {
        for channel in channels.withLock({ Array($0.values) }) { channel.close(promise: nil) }
    }
}

/// The listening socket and the pipeline of each connection: HTTP/1.1, and WebSocket after an upgrade of `/ws`.
struct Listener {
    let router: Router
    let hub: EventHub
    let queue: PromptQueue
    let connections: Connections
    let configuration: ComfySimulator.Configuration

    private struct Refused: Error {}

    func bind(on loop: any EventLoop, port: Int) -> EventLoopFuture<any Channel> {
        ServerBootstrap(group: loop)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.writeBufferWaterMark, value: ChannelOptions.Types.WriteBufferWaterMark(low: 32 << 10, high: 64 << 10))
            .childChannelInitializer { [self] channel in
                channel.eventLoop.makeCompletedFuture { try self.configure(channel) }
            }
            .bind(host: configuration.host, port: port)
            .map { channel in
                connections.add(channel)
                return channel
            }
    }

    private func configure(_ channel: any Channel) throws {
        let router = router, faults = router.services.faults
        guard !faults.refusesConnection() else { throw Refused() }  // which closes it
        connections.add(channel)
        let http = HTTPHandler(maximumBodySize: configuration.maximumUploadSize, respond: router.respond)
        let bound = NIOLoopBound(http, eventLoop: channel.eventLoop)
        let upgrader = NIOWebSocketServerUpgrader(
            maxFrameSize: SocketHandler.maximumMessageSize, automaticErrorHandling: false,
            shouldUpgrade: { channel, head in
                // Nil makes it a plain request, which the router refuses.
                guard router.acceptsSocket(head) else { return channel.eventLoop.makeSucceededFuture(nil) }
                bound.value.refusal = faults.refusal(head)
                return channel.eventLoop.makeSucceededFuture(bound.value.refusal == nil ? [:] : nil)
            },
            upgradePipelineHandler: { [hub, queue] channel, head in
                channel.eventLoop.makeCompletedFuture {
                    let id = Request(head: head, body: []).value("clientId") ?? ""
                    let sid = id.isEmpty ? UUID().uuidString.lowercased().replacing("-", with: "") : id
                    let socket = SocketHandler(sid: sid, hub: hub, queueRemaining: { queue.remaining })
                    try channel.pipeline.syncOperations.addHandler(socket)
                    faults.connected(socket)
                }
            })
        let encoder = HTTPResponseEncoder()
        let others: [any RemovableChannelHandler] = [
            ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .forwardBytes)), HTTPServerPipelineHandler(), NIOHTTPResponseHeadersValidator(),
            HTTPServerProtocolErrorHandler(),
        ]
        // NIO's handler looks at one request and goes. ComfyUI, like aiohttp which it is made with, upgrades at any request of a connection.
        http.expectsRequest = { context, http in
            let upgrade = HTTPServerUpgradeHandler(
                upgraders: [upgrader], httpEncoder: encoder, extraHTTPHandlers: others,
                upgradeCompletionHandler: { context in context.pipeline.syncOperations.removeHandler(bound.value, promise: nil) })
            try? context.pipeline.syncOperations.addHandler(upgrade, position: .before(http))  // fails where the connection is closed already
        }
        try channel.pipeline.syncOperations.addHandlers([encoder] + others)
        try channel.pipeline.syncOperations.addHandler(http)
    }
}
