import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket
import OrderedCollections
import OrderedJSON

/// What a socket received.
enum SocketMessage: Sendable {
    case text(JSON)
    case binary([UInt8])
    /// A close frame with its code; the connection may end without one.
    case close(Int)
    case pong
}

/// A WebSocket client that records everything.
final class SocketClient: Sendable {
    private let channel: any Channel
    private let stream: AsyncStream<SocketMessage>
    private let iterator: MessageIterator

    /// Suspends until the handshake is done.
    static func connect(port: Int, path: String, headers: HTTPHeaders = [:]) async throws -> SocketClient {
        let (stream, continuation) = AsyncStream<SocketMessage>.makeStream()
        let upgrade: EventLoopFuture<(any Channel)?> = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .connect(host: "127.0.0.1", port: port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    let upgrader = NIOTypedWebSocketClientUpgrader<(any Channel)?>(
                        maxFrameSize: 256 << 20,
                        upgradePipelineHandler: { channel, _ in
                            channel.eventLoop.makeCompletedFuture {
                                try channel.pipeline.syncOperations.addHandler(Recorder(continuation))
                                return channel
                            }
                        })
                    var all = headers
                    all.replaceOrAdd(name: "Host", value: "127.0.0.1:\(port)")
                    let head = HTTPRequestHead(version: .http1_1, method: .GET, uri: path, headers: all)
                    let configuration = NIOTypedHTTPClientUpgradeConfiguration(
                        upgradeRequestHead: head, upgraders: [upgrader],
                        notUpgradingCompletionHandler: { $0.eventLoop.makeSucceededFuture(nil) })
                    var pipeline = NIOUpgradableHTTPClientPipelineConfiguration(upgradeConfiguration: configuration)
                    pipeline.leftOverBytesStrategy = .forwardBytes  // the first `status` may share a packet with the 101
                    return try channel.pipeline.syncOperations.configureUpgradableHTTPClientPipeline(configuration: pipeline)
                }
            }
        guard let channel = try? await upgrade.get() else { throw SocketRefused() }  // another answer than 101, or a closed connection
        channel.closeFuture.whenComplete { _ in continuation.finish() }  // it may have ended before the recorder was there
        return SocketClient(channel: channel, stream: stream)
    }

    private init(channel: any Channel, stream: AsyncStream<SocketMessage>) {
        self.channel = channel
        self.stream = stream
        iterator = MessageIterator(stream.makeAsyncIterator())
    }

    /// The next message; nil at the end of the connection.
    func next() async -> SocketMessage? { await iterator.next() }

    func send(_ text: String) async throws { try await send(.text, Array(text.utf8)) }

    func send(_ opcode: WebSocketOpcode, _ bytes: [UInt8], fin: Bool = true) async throws {
        try await channel.writeAndFlush(WebSocketFrame(fin: fin, opcode: opcode, maskKey: .random(), data: ByteBuffer(bytes: bytes)))
    }

    /// Stops or resumes reading from the network, like a client that is busy elsewhere.
    func setReading(_ reads: Bool) async throws { try await channel.setOption(.autoRead, value: reads).get() }

    /// A clean close; suspends until the connection has ended.
    func close() async throws {
        try await send(.connectionClose, [3, 232])
        try await channel.closeFuture.get()
    }

    /// Drops the connection without a word.
    func drop() async throws { try await channel.close() }

    var closed: EventLoopFuture<Void> { channel.closeFuture }
}

struct SocketRefused: Error {}

/// Serialises reads; the tests read from one task at a time.
private actor MessageIterator {
    private var iterator: AsyncStream<SocketMessage>.Iterator

    init(_ iterator: AsyncStream<SocketMessage>.Iterator) { self.iterator = iterator }

    func next() async -> SocketMessage? {
        var iterator = self.iterator
        defer { self.iterator = iterator }
        return await iterator.next(isolation: self)
    }
}

private final class Recorder: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame

    private let continuation: AsyncStream<SocketMessage>.Continuation

    init(_ continuation: AsyncStream<SocketMessage>.Continuation) { self.continuation = continuation }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        let bytes = Array(frame.unmaskedData.readableBytesView)
        switch frame.opcode {
        case .text: continuation.yield(.text((try? JSON(parsing: bytes, lenient: true)) ?? .null))
        case .binary: continuation.yield(.binary(bytes))
        case .pong: continuation.yield(.pong)
        case .connectionClose:
            continuation.yield(.close(bytes.count >= 2 ? Int(bytes[0]) << 8 | Int(bytes[1]) : 0))
            context.close(promise: nil)
        default: break
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
}
