import NIOCore
import NIOHTTP1

/// Collects each request of a connection, has it answered, and writes the answer.
///
/// Everything happens on the one event loop: a route runs to its end before the next request is looked at, as in ComfyUI,
/// whose handlers share one loop.
final class HTTPHandler: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private enum State {
        case idle
        case receiving(HTTPRequestHead, [UInt8])
        /// Refused before its end. The rest is read and dropped, because closing with unread data would reset the connection
        /// and might take the answer along.
        case discarding
    }

    /// What a body is read and sent by.
    private enum Source {
        case bytes([UInt8])
        case file(OpenFile)

        var range: Range<Int64> {
            switch self {
            case .bytes(let bytes): 0..<Int64(bytes.count)
            case .file(let file): file.range
            }
        }

        func read(at offset: Int64, count: Int) -> ByteBuffer {
            switch self {
            case .bytes(let bytes): ByteBuffer(bytes: bytes[Int(offset)..<min(bytes.count, Int(offset) + count)])
            case .file(let file): ByteBuffer(bytes: file.read(at: offset, count: count))
            }
        }
    }

    private static let chunk = 256 * 1024
    /// Between the pieces of a body that is slow on purpose.
    private static let pace = TimeAmount.milliseconds(20)

    private let maximumBodySize: Int
    private let respond: (Request) -> Reply
    private var state = State.idle
    /// The answer to an upgrade request that a fault turned down.
    var refusal: Reply?
    /// Called before each request of the connection.
    var expectsRequest: ((ChannelHandlerContext, HTTPHandler) -> Void)?

    init(maximumBodySize: Int, respond: @escaping (Request) -> Reply) {
        self.maximumBodySize = maximumBodySize
        self.respond = respond
    }

    func handlerAdded(context: ChannelHandlerContext) { expectsRequest?(context, self) }
    func handlerRemoved(context: ChannelHandlerContext) { expectsRequest = nil }  // it may hold this handler

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch (unwrapInboundIn(data), state) {
        case (.head(let head), _):
            if let length = head.headers.first(name: "content-length").flatMap({ Int($0) }), length > maximumBodySize {
                refuse(head, context: context)
            } else {
                if head.headers.first(name: "expect")?.lowercased() == "100-continue" {
                    context.writeAndFlush(wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: .continue))), promise: nil)
                }
                state = .receiving(head, [])
            }
        case (.body(let part), .receiving(let head, var body)):
            guard body.count + part.readableBytes <= maximumBodySize else { return refuse(head, context: context) }
            state = .idle  // so that `body` is the only holder and grows in place
            body.append(contentsOf: part.readableBytesView)
            state = .receiving(head, body)
        case (.end, .receiving(let head, let body)):
            state = .idle
            let reply = refusal ?? respond(Request(head: head, body: body))
            refusal = nil
            if let delay = reply.delivery.delay {
                let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
                context.eventLoop.scheduleTask(in: delay) {
                    let (handler, context) = bound.value
                    handler.write(reply, to: head, keepAlive: head.isKeepAlive, context: context)
                }
            } else {
                write(reply, to: head, keepAlive: head.isKeepAlive, context: context)
            }
        case (.end, .discarding):
            context.close(promise: nil)
        case (.end, .idle), (.body, .idle), (.body, .discarding):
            break
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)  // the HTTP error handler before this one has answered 400 where it could
    }

    private func refuse(_ head: HTTPRequestHead, context: ChannelHandlerContext) {
        state = .discarding
        write(.tooLarge(limit: maximumBodySize), to: head, keepAlive: false, closes: false, context: context)
    }

    /// - Parameter closes: whether to close behind the answer when it is the last one.
    private func write(
        _ reply: Reply, to request: HTTPRequestHead, keepAlive: Bool, closes: Bool = true, context: ChannelHandlerContext
    ) {
        if case .hangUp = reply.body { return context.close(promise: nil) }
        var head = HTTPResponseHead(version: request.version, status: reply.status, headers: reply.headers)
        let hasBody = request.method != .HEAD && reply.status != .notModified
        switch reply.body {
        case .empty:
            if reply.status != .notModified { head.headers.replaceOrAdd(name: "Content-Length", value: "0") }
        case .emptyChunked, .endless:
            if request.version == .http1_1 { head.headers.replaceOrAdd(name: "Transfer-Encoding", value: "chunked") }
        case .bytes(let bytes): head.headers.replaceOrAdd(name: "Content-Length", value: String(bytes.count))
        case .file(let file): head.headers.replaceOrAdd(name: "Content-Length", value: String(file.range.count))
        case .hangUp: break
        }
        if keepAlive {
            if request.version == .http1_0 { head.headers.replaceOrAdd(name: "Connection", value: "keep-alive") }
        } else {
            head.headers.replaceOrAdd(name: "Connection", value: "close")
        }
        context.write(wrapOutboundOut(.head(head)), promise: nil)

        let isUsual = reply.delivery.bytesPerSecond == nil && reply.delivery.percent == nil
        switch reply.body {
        case .bytes(let bytes) where hasBody && isUsual:
            context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: bytes)))), promise: nil)
            finish(keepAlive: keepAlive || !closes, context: context)
        case .bytes(let bytes) where hasBody:
            send(.bytes(bytes), from: 0, reply.delivery, keepAlive: keepAlive, context: context)
        case .file(let file) where hasBody:
            send(.file(file), from: file.range.lowerBound, reply.delivery, keepAlive: keepAlive, context: context)
        case .endless(let chunk) where hasBody:
            repeatForever(ByteBuffer(bytes: chunk), context: context)
        case .empty, .emptyChunked, .bytes, .file, .endless, .hangUp:
            finish(keepAlive: keepAlive || !closes, context: context)
        }
    }

    /// Sends a body piece by piece; the next piece is read when the last one has been written, so a slow reader holds one piece in memory.
    private func send(
        _ source: Source, from offset: Int64, _ delivery: Reply.Delivery, keepAlive: Bool, context: ChannelHandlerContext
    ) {
        let range = source.range
        var end = range.upperBound
        if let percent = delivery.percent { end = range.lowerBound + Int64(range.count) * Int64(percent) / 100 }
        guard offset < end else {
            guard delivery.percent == nil else { return closeBehindWhatIsWritten(context: context) }
            return finish(keepAlive: keepAlive, context: context)
        }
        let size = delivery.bytesPerSecond.map { max(1, Int(Double($0) * Double(Self.pace.nanoseconds) / 1e9)) } ?? Self.chunk
        let chunk = source.read(at: offset, count: Int(min(Int64(min(size, Self.chunk)), end - offset)))
        guard chunk.readableBytes > 0 else { return context.close(promise: nil) }  // it shrank: a short body tells the client
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let next = offset + Int64(chunk.readableBytes)
        let goOn: @Sendable () -> Void = {
            let (handler, context) = bound.value
            handler.send(source, from: next, delivery, keepAlive: keepAlive, context: context)
        }
        let written = context.eventLoop.makePromise(of: Void.self)
        let loop = context.eventLoop
        written.futureResult.whenSuccess {
            if delivery.bytesPerSecond == nil { goOn() } else { loop.scheduleTask(in: Self.pace, goOn) }
        }
        context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(chunk))), promise: written)
    }

    private func repeatForever(_ chunk: ByteBuffer, context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.whenSuccess {
            let (handler, context) = bound.value
            handler.repeatForever(chunk, context: context)
        }
        context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(chunk))), promise: written)
    }

    private func closeBehindWhatIsWritten(context: ChannelHandlerContext) {
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { _ in bound.value.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(ByteBuffer()))), promise: written)
    }

    private func finish(keepAlive: Bool, context: ChannelHandlerContext) {
        if keepAlive {
            expectsRequest?(context, self)  // before the end of the answer, behind which a pipelined request may come at once
            return context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        }
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { _ in bound.value.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: written)
    }
}
