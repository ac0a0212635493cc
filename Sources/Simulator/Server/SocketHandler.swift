import NIOCore
import NIOWebSocket
import OrderedCollections
import OrderedJSON

/// One WebSocket: frames in, frames out (protocol section 5). Lives on its event loop.
final class SocketHandler: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame
    typealias OutboundOut = WebSocketFrame

    /// What a client may send in one message.
    static let maximumMessageSize = 4 << 20

    let sid: String
    private let hub: EventHub
    private let queueRemaining: () -> Int
    private var context: ChannelHandlerContext?
    private var isFirstMessage = true
    private var isClosing = false
    /// Its peer is as good as gone (a fault): nothing is read, nothing is written, no end is noticed.
    private(set) var isVanished = false
    private var fragments: (opcode: WebSocketOpcode, data: ByteBuffer)?

    init(sid: String, hub: EventHub, queueRemaining: @escaping () -> Int) {
        self.sid = sid
        self.hub = hub
        self.queueRemaining = queueRemaining
    }

    // MARK: Out

    /// False while more than 64 KiB wait to be sent (the channel's high water mark). A closed socket swallows everything.
    var isWritable: Bool { isVanished || context.map { $0.channel.isWritable || !$0.channel.isActive } ?? true }

    func write(text: ByteBuffer) { write(WebSocketFrame(fin: true, opcode: .text, data: text)) }
    func write(binary: ByteBuffer) { write(WebSocketFrame(fin: true, opcode: .binary, data: binary)) }
    func flush() { context?.flush() }

    private func write(_ frame: WebSocketFrame) {
        guard !isClosing, !isVanished else { return }
        context?.write(wrapOutboundOut(frame), promise: nil)
    }

    /// The connection ends without a close frame.
    func drop() { context?.close(promise: nil) }

    /// From now on nothing gets through in either direction. A client that closes is not answered either.
    func vanish() {
        isVanished = true
        guard let options = context?.channel.syncOptions else { return }
        try? options.setOption(.allowRemoteHalfClosure, value: true)
        try? options.setOption(.autoRead, value: false)
    }

    // MARK: In

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        hub.connect(self, remaining: queueRemaining())
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        guard self.context != nil else { return }
        self.context = nil
        if !isVanished { hub.disconnect(self) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        handlerRemoved(context: context)
        context.fireChannelInactive()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { hub.becameWritable(self) }
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard !isClosing else { return context.close(promise: nil) }
        guard !isVanished else { return }
        let code: WebSocketErrorCode = (error as? NIOWebSocketError) == .invalidFrameLength ? .messageTooLarge : .protocolError
        close(code, context: context)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isVanished else { return }
        let frame = unwrapInboundIn(data)
        switch frame.opcode {
        case .ping:
            context.writeAndFlush(wrapOutboundOut(WebSocketFrame(fin: true, opcode: .pong, data: frame.unmaskedData)), promise: nil)
        case .connectionClose:
            close(.normalClosure, context: context)  // 1000, whatever the client said
        case .text, .binary:
            collect(frame.opcode, frame.unmaskedData, isLast: frame.fin, context: context)
        case .continuation:
            guard let begun = fragments else { return close(.protocolError, context: context) }
            collect(begun.opcode, frame.unmaskedData, isLast: frame.fin, context: context)
        default:
            break  // a pong, or an opcode without meaning
        }
    }

    private func collect(_ opcode: WebSocketOpcode, _ data: ByteBuffer, isLast: Bool, context: ChannelHandlerContext) {
        var message = fragments?.data ?? ByteBuffer()
        message.writeImmutableBuffer(data)
        guard message.readableBytes <= Self.maximumMessageSize else { return close(.messageTooLarge, context: context) }
        fragments = isLast ? nil : (opcode, message)
        if isLast, opcode == .text { received(message) }
    }

    /// Only `feature_flags` is ever read, and only as the first message that is a JSON object.
    private func received(_ message: ByteBuffer) {
        guard isFirstMessage, let json = try? JSON(parsing: message.readableBytesView, lenient: true), let object = json.object else {
            return
        }
        isFirstMessage = false
        if object["type"] == "feature_flags" { hub.setFlags(object["data"] ?? [:], of: self) }
    }

    private func close(_ code: WebSocketErrorCode, context: ChannelHandlerContext) {
        guard !isClosing else { return }
        isClosing = true
        var data = ByteBuffer()
        data.write(webSocketErrorCode: code)
        let bound = NIOLoopBound(context, eventLoop: context.eventLoop)
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { _ in bound.value.close(promise: nil) }
        context.writeAndFlush(wrapOutboundOut(WebSocketFrame(fin: true, opcode: .connectionClose, data: data)), promise: written)
    }
}
