import NIOCore
import NIOPosix

struct Answer {
    var head: ResponseHead
    var body: [UInt8] = []

    var status: Int { head.status }
    var text: String { String(decoding: body.prefix(300), as: UTF8.self) }
}

/// One kept connection for one request after the other. Lives on the load loop; a broken connection is made again for the next request.
final class HTTPConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    let target: Target
    private let loop: any EventLoop
    private var context: ChannelHandlerContext?
    private var parser = HTTPResponseParser()
    private var answer: Answer?
    private var waiting: CheckedContinuation<Answer, any Error>?
    private var endsAtHead = false

    init(_ target: Target, on loop: any EventLoop) {
        self.target = target
        self.loop = loop
    }

    /// The whole answer.
    func send(_ method: String, _ path: String, _ fields: [(String, String)] = [], body: [UInt8]? = nil) async throws -> Answer {
        try await send(target.request(method, path, fields, body: body))
    }

    /// Only the head; what comes behind it is read and dropped until `close`.
    func open(_ method: String, _ path: String, _ fields: [(String, String)] = [], body: [UInt8]? = nil) async throws -> Answer {
        endsAtHead = true
        return try await send(method, path, fields, body: body)
    }

    private func send(_ request: ByteBuffer) async throws -> Answer {
        precondition(waiting == nil, "one request at a time")
        if context == nil { try await Connecting.connect(self, to: target.address, on: loop) }
        return try await withCheckedThrowingContinuation { continuation in
            waiting = continuation
            context?.writeAndFlush(wrapOutboundOut(request), promise: nil)
        }
    }

    func close() { context?.close(promise: nil) }

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        parser = HTTPResponseParser()
        answer = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        do {
            try unwrapInboundIn(data).withUnsafeReadableBytes { bytes in try parser.parse(bytes) { take($0) } }
        } catch {
            fail(error)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        guard context === self.context else { return }  // one that was left
        do {
            try parser.close { take($0) }
            fail(ProtocolViolation("the connection ended without an answer"))
        } catch {
            fail(error)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { fail(error) }

    private func take(_ piece: HTTPResponseParser.Piece) {
        switch piece {
        case .head(let head) where endsAtHead:
            waiting?.resume(returning: Answer(head: head))
            waiting = nil
        case .head(let head): answer = Answer(head: head)
        case .body(let bytes): answer?.body.append(contentsOf: bytes)
        case .end:
            guard let answer, let waiting else { return }
            self.answer = nil
            self.waiting = nil
            if answer.head["connection"]?.lowercased() == "close" { leave() }
            waiting.resume(returning: answer)
        }
    }

    private func fail(_ error: any Error) {
        leave()
        let waiting = waiting
        self.waiting = nil
        waiting?.resume(throwing: error)
    }

    private func leave() {
        let left = context
        context = nil  // before the end is told
        left?.close(promise: nil)
    }
}

enum Connecting {
    /// Opens a connection with one handler. Call on the loop.
    static func connect(_ handler: some ChannelInboundHandler, to address: SocketAddress, on loop: any EventLoop) async throws {
        let bound = NIOLoopBound(handler, eventLoop: loop)
        _ = try await ClientBootstrap(group: loop)
            .connectTimeout(.seconds(30))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.maxMessagesPerRead, value: 1)  // also how many buffers are kept
            .channelOption(.recvAllocator, value: TransientBuffers())
            .channelInitializer { channel in channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(bound.value) } }
            .connect(to: address).get()
    }
}

/// A buffer for each read, given back right after it: thousands of connections share the few that malloc hands out. NIO keeps the first buffer
/// of each connection, so that one is small.
private struct TransientBuffers: RecvByteBufferAllocator {
    /// glibc tidies up its whole heap whenever 64 KiB are freed.
    private static let usual = 60 << 10
    private var size = 512

    func buffer(allocator: ByteBufferAllocator) -> ByteBuffer { allocator.buffer(capacity: size) }

    mutating func record(actualReadBytes: Int) -> Bool {
        size = Self.usual
        return true  // "it grows": or else the small one is used again
    }
}
