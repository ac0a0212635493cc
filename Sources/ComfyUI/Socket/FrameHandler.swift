import Logging
import NIOCore
import NIOSSL
import NIOWebSocket
import OrderedJSON

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// The WebSocket side of one connection: says who we are, turns frames into events, pings, answers, says goodbye. Lives on the event loop.
final class FrameHandler: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame
    typealias OutboundOut = WebSocketFrame

    private enum Stage {
        /// Until the first `status`.
        case greeting
        case open
        /// Our close frame is sent; the server is to close.
        case leaving
        case closed
    }

    /// The first message on every connection; anything else would use up the only chance to set flags (protocol section 5).
    static let featureFlags: JSON = [
        "type": "feature_flags", "data": ["supports_preview_metadata": true, "supports_progress_text_metadata": true],
    ]

    private let configuration: EventSocket.Configuration
    private let readWatch: ReadWatch
    private let ended: EventLoopPromise<AttemptEnding>
    private let logger: Logger
    private let onEvent: @Sendable (EventSocketEvent) -> Void

    private var context: ChannelHandlerContext?
    private var stage = Stage.greeting
    private var wasConnected = false
    private var hasServed = false
    /// The server's end of the connection is closed.
    private var isClosedByServer = false
    /// The first reason wins: what comes after it are its consequences.
    private var reason: String?
    private var progressTextHasPromptID = false
    private var unreadableFrames = 0
    private var unknownTypes: Set<String> = []
    /// The first `status`, or the end of `leaving`, has to come before this.
    private var stageTimer: Scheduled<Void>?
    private var pingTimer: Scheduled<Void>?
    private var pongTimer: Scheduled<Void>?

    init(
        _ configuration: EventSocket.Configuration, _ readWatch: ReadWatch, ended: EventLoopPromise<AttemptEnding>, logger: Logger,
        onEvent: @escaping @Sendable (EventSocketEvent) -> Void
    ) {
        self.configuration = configuration
        self.readWatch = readWatch
        self.ended = ended
        self.logger = logger
        self.onEvent = onEvent
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        finish()
        self.context = nil
    }

    /// The handshake is done.
    func start() {
        send(.text, ByteBuffer(bytes: Self.featureFlags.encoded()))
        stageTimer = after(configuration.connectTimeout) { handler in handler.close(because: "the server sent no status within the time limit") }
        schedulePing()
        readWatch.onReads = { [weak self] hasFrame in self?.bytesArrived(completingFrame: hasFrame) }
    }

    /// Sends a close frame and gives the server `closeTimeout` to close the connection, so that it has let go of our client id.
    func sayGoodbye(_ reason: String) {
        switch stage {
        case .greeting, .open: leave(.normalClosure, reason)
        case .leaving, .closed: break
        }
    }

    // MARK: Frames

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard stage != .closed else { return }
        readWatch.noteFrame()
        let frame = Self.unwrapInboundIn(data)
        guard !frame.rsv1, !frame.rsv2, !frame.rsv3 else {
            return leave(.protocolError, "the server sent a frame of an extension that was not agreed on")
        }
        switch frame.opcode {
        case .text: receive(text: String(buffer: frame.unmaskedData))
        case .binary: receive(binary: frame.unmaskedData)
        case .ping: if context.channel.isWritable { send(.pong, frame.unmaskedData) }  // else the server does not read: no heap of pongs for it
        case .pong: break  // `bytesArrived` follows
        case .connectionClose: receive(close: frame.unmaskedData)
        default: leave(.protocolError, "the server sent a frame with the unknown opcode \(frame.opcode)")
        }
    }

    private func receive(text: String) {
        let message: ComfyMessage
        do throws(ComfyMessageError) {
            message = try ComfyMessage(parsing: text)
        } catch {
            return skip(because: error)
        }
        switch message {
        case .status(_, let sid):
            if case .greeting = stage {
                stage = .open
                stageTimer?.cancel()
                wasConnected = true
                onEvent(.connected(sid: sid))
            }
        case .featureFlags(let flags): progressTextHasPromptID = flags["supports_progress_text_metadata"]?.bool ?? false
        case .unknown(let type, _, _): noteUnknown(type, .debug)  // node packs send their own
        default: break
        }
        if message.promptID != nil { hasServed = true }
        onEvent(.message(message, raw: text))
    }

    private func receive(binary: ByteBuffer) {
        do throws(ComfyMessageError) {
            let message = try ComfyBinaryMessage(parsing: binary, progressTextHasPromptID: progressTextHasPromptID)
            if case .unknown(let type, _, _) = message { noteUnknown("binary \(type)", .info) }
            onEvent(.binary(message))
        } catch {
            skip(because: error)
        }
    }

    /// What is sent once is sent again and again: each type is told once a connection.
    private func noteUnknown(_ type: String, _ level: Logger.Level) {
        let type = String(decoding: type.utf8.prefix(100), as: UTF8.self)
        guard unknownTypes.count < 32, unknownTypes.insert(type).inserted else { return }
        logger.log(
            level: level, "ComfyUI sends messages of a type that the bridge does not know",
            metadata: ["comfyui": "\(configuration.endpoint)", "type": "\(type)"])
    }

    /// A node that sends broken frames sends many: the first of a connection is a warning.
    private func skip(because error: ComfyMessageError) {
        logger.log(
            level: unreadableFrames == 0 ? .warning : .debug, "a message of ComfyUI cannot be read and is skipped",
            metadata: ["comfyui": "\(configuration.endpoint)", "reason": "\(error.description)"])
        unreadableFrames += 1
        onEvent(.undecodable(reason: error.description))
    }

    private func receive(close payload: ByteBuffer) {
        isClosedByServer = true
        guard stage != .leaving else { return }  // the answer to ours; the server closes next
        var rest = payload
        if let code = rest.readInteger(as: UInt16.self) {
            let text = rest.readString(length: rest.readableBytes) ?? ""
            reason = reason ?? "the server closed with code \(code)\(text.isEmpty ? "" : ": \(text)")"
        } else {
            reason = reason ?? "the server closed"
        }
        stage = .closed
        send(.connectionClose, payload.getSlice(at: payload.readerIndex, length: min(2, payload.readableBytes)) ?? ByteBuffer())
        context?.close(promise: nil)
    }

    // MARK: The end

    func channelInactive(context: ChannelHandlerContext) {
        if stage != .closed { isClosedByServer = true }
        finish()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case NIOWebSocketError.invalidFrameLength, NIOWebSocketFrameAggregator.Error.accumulatedFrameSizeIsTooLarge,
            NIOWebSocketFrameAggregator.Error.tooManyFragments:
            leave(.messageTooLarge, "the server sent a message larger than \(configuration.maximumFrameSize) bytes")
        case is NIOWebSocketError, is NIOWebSocketFrameAggregator.Error:
            leave(.protocolError, "the server broke the WebSocket protocol: \(NetworkWords.of(error))")
        case NIOSSLError.uncleanShutdown: break  // end of file without goodbye; `channelInactive` follows
        case let error as IOError where error.errnoCode == ECONNRESET:
            isClosedByServer = true
            close(because: NetworkWords.of(error))
        default: close(because: NetworkWords.of(error))
        }
    }

    private func leave(_ code: WebSocketErrorCode, _ reason: String) {
        guard stage == .greeting || stage == .open else { return }
        self.reason = self.reason ?? reason
        stage = .leaving
        var payload = ByteBuffer()
        payload.write(webSocketErrorCode: code)
        send(.connectionClose, payload)
        pingTimer?.cancel()
        stageTimer?.cancel()
        stageTimer = after(configuration.closeTimeout) { handler in handler.close(because: reason) }
    }

    private func close(because reason: String) {
        self.reason = self.reason ?? reason
        stage = .closed
        context?.close(promise: nil)
    }

    private func finish() {
        stage = .closed
        for timer in [stageTimer, pingTimer, pongTimer] { timer?.cancel() }
        readWatch.onReads = nil
        ended.succeed(AttemptEnding(wasConnected: wasConnected, hasServed: hasServed, isKnownToServer: isClosedByServer, reason: reason ?? "the connection broke without a close frame"))
    }

    // MARK: Ping

    private func schedulePing() {
        pingTimer = after(configuration.pingInterval) { handler in
            handler.ping()
            handler.schedulePing()
        }
    }

    private func ping() {
        guard pongTimer == nil else { return }  // the last one is not answered yet
        send(.ping, ByteBuffer(string: "comfy-bridge"))
        pongTimer = after(configuration.pongTimeout) { handler in
            handler.close(because: "the server did not answer a ping within the time limit")
        }
    }

    /// Any byte answers a ping: the pong may wait behind a large frame. Bytes that complete nothing are a part of one.
    private func bytesArrived(completingFrame hasFrame: Bool) {
        pongTimer?.cancel()
        pongTimer = nil
        if stage == .open, !hasFrame { onEvent(.receiving) }
    }

    private func after(_ delay: Duration, _ work: @escaping @Sendable (FrameHandler) -> Void) -> Scheduled<Void>? {
        guard let eventLoop = context?.eventLoop else { return nil }
        let handler = NIOLoopBound(self, eventLoop: eventLoop)
        return eventLoop.scheduleTask(in: TimeAmount(delay)) { work(handler.value) }
    }

    private func send(_ opcode: WebSocketOpcode, _ data: ByteBuffer) {
        let frame = WebSocketFrame(fin: true, opcode: opcode, maskKey: .random(), data: data)
        context?.writeAndFlush(Self.wrapOutboundOut(frame), promise: nil)
    }
}
