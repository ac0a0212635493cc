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

    private static let fileChunk = 256 * 1024

    private let maximumBodySize: Int
    private let respond: (Request) -> Reply
    private var state = State.idle

    init(maximumBodySize: Int, respond: @escaping (Request) -> Reply) {
        self.maximumBodySize = maximumBodySize
        self.respond = respond
    }

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
            write(respond(Request(head: head, body: body)), to: head, keepAlive: head.isKeepAlive, context: context)
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
        var head = HTTPResponseHead(version: request.version, status: reply.status, headers: reply.headers)
        let hasBody = request.method != .HEAD && reply.status != .notModified
        switch reply.body {
        case .empty:
            if reply.status != .notModified { head.headers.replaceOrAdd(name: "Content-Length", value: "0") }
        case .emptyChunked:
            if request.version == .http1_1 { head.headers.replaceOrAdd(name: "Transfer-Encoding", value: "chunked") }
        case .bytes(let bytes): head.headers.replaceOrAdd(name: "Content-Length", value: String(bytes.count))
        case .file(let file): head.headers.replaceOrAdd(name: "Content-Length", value: String(file.range.count))
        }
        if keepAlive {
            if request.version == .http1_0 { head.headers.replaceOrAdd(name: "Connection", value: "keep-alive") }
        } else {
            head.headers.replaceOrAdd(name: "Connection", value: "close")
        }
        context.write(wrapOutboundOut(.head(head)), promise: nil)

        switch reply.body {
        case .bytes(let bytes) where hasBody:
            context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: bytes)))), promise: nil)
            finish(keepAlive: keepAlive || !closes, context: context)
        case .file(let file) where hasBody:
            send(file, from: file.range.lowerBound, keepAlive: keepAlive, context: context)
        case .empty, .emptyChunked, .bytes, .file:
            finish(keepAlive: keepAlive || !closes, context: context)
        }
    }

    /// Sends a file piece by piece; the next piece is read when the last one has been written, so a slow reader holds one piece in memory.
    private func send(_ file: OpenFile, from offset: Int64, keepAlive: Bool, context: ChannelHandlerContext) {
        guard offset < file.range.upperBound else { return finish(keepAlive: keepAlive, context: context) }
        let chunk = file.read(at: offset, count: Int(min(Int64(Self.fileChunk), file.range.upperBound - offset)))
        guard !chunk.isEmpty else { return context.close(promise: nil) }  // it shrank: a short body tells the client
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.whenSuccess {
            let (handler, context) = bound.value
            handler.send(file, from: offset + Int64(chunk.count), keepAlive: keepAlive, context: context)
        }
        context.writeAndFlush(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: chunk)))), promise: written)
    }

    private func finish(keepAlive: Bool, context: ChannelHandlerContext) {
        guard !keepAlive else { return context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil) }
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { _ in bound.value.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: written)
    }
}
