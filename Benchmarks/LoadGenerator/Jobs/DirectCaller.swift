import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix
import NIOWebSocket
import OrderedCollections
import OrderedJSON
import PreviewStamp

/// What a program without the bridge does: it submits a prompt and reads its own socket until ComfyUI says that nothing executes any more.
final class DirectCaller: JobCaller {
    private let connection: HTTPConnection
    private let socket: DirectSocket
    private let clientID: String
    private var target: Target { connection.target }

    private init(_ target: Target, _ socket: DirectSocket, _ clientID: String, on loop: any EventLoop) {
        connection = HTTPConnection(target, on: loop)
        self.socket = socket
        self.clientID = clientID
    }

    /// Connected and greeted.
    static func connect(_ target: Target, on loop: any EventLoop) async throws -> DirectCaller {
        let clientID = UUID().uuidString.lowercased()
        let socket = DirectSocket()
        try await socket.connect(target, clientID: clientID, on: loop)
        return DirectCaller(target, socket, clientID, on: loop)
    }

    func close() {
        connection.close()
        socket.close()
    }

    /// - Throws: `ProtocolViolation` when not so many stamped previews have come, one after the other and all of that size.
    func checkPreviews(_ count: Int, size: Int) throws {
        if let flaw = socket.previewFlaw { throw ProtocolViolation(flaw) }
        guard socket.previews == count else { throw ProtocolViolation("\(socket.previews) previews instead of \(count)") }
        guard socket.previewBytes == count * size else { throw ProtocolViolation("\(socket.previewBytes) bytes of previews instead of \(count * size)") }
    }

    /// The picture of the last job that ran: its path at ComfyUI, and its size in bytes.
    func fetchPicture() async throws -> (path: String, size: Int) {
        guard let picture = socket.picture, let name = picture["filename"]?.string, let folder = picture["subfolder"]?.string,
            let kind = picture["type"]?.string
        else { throw ProtocolViolation("the picture has no name") }
        let path = target.path + "/view?filename=\(name)&subfolder=\(folder)&type=\(kind)"
        let answer = try await connection.send("GET", path)
        guard answer.status == 200 else { throw ProtocolViolation("picture: status \(answer.status): \(answer.text)") }
        return (path, answer.body.count)
    }

    func run(_ graph: [UInt8]) async throws -> JobOutcome {
        let id = UUID().uuidString.lowercased()
        socket.expect(id)
        let fields = #", "prompt_id": "\#(id)", "client_id": "\#(clientID)", "extra_data": {}}"#
        let body = Array(#"{"prompt": "#.utf8) + graph + Array(fields.utf8)
        let answer = try await connection.send("POST", target.path + "/prompt", [("Content-Type", "application/json")], body: body)
        guard answer.status == 200 else { throw ProtocolViolation("status \(answer.status): \(answer.text)") }
        return .succeeded(at: try await socket.end())
    }
}

/// One WebSocket to ComfyUI. Reads the few messages that a client needs, and counts the previews.
final class DirectSocket: ChannelInboundHandler {
    typealias InboundIn = WebSocketFrame
    typealias OutboundOut = WebSocketFrame

    private enum State {
        case idle
        case open(prompt: String, outputs: Int)
        case waiting(prompt: String, outputs: Int, CheckedContinuation<UInt64, any Error>)
        case over(Result<UInt64, ProtocolViolation>)
    }

    private static let maximumFrame = 256 << 20

    private var context: ChannelHandlerContext?
    private var state = State.idle
    /// What `executed` said of the last picture.
    private(set) var picture: JSON?
    private(set) var previews = 0
    /// Of the JPEGs.
    private(set) var previewBytes = 0
    /// The first thing that was wrong with a stamped preview.
    private(set) var previewFlaw: String?
    private var nextStamp = 0

    func connect(_ target: Target, clientID: String, on loop: any EventLoop) async throws {
        var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: "\(target.path)/ws?clientId=\(clientID)")
        head.headers.add(name: "Host", value: target.authority)
        let bound = NIOLoopBound(self, eventLoop: loop)
        let upgrader = NIOTypedWebSocketClientUpgrader<Bool>(maxFrameSize: Self.maximumFrame, enableAutomaticErrorHandling: false) { channel, _ in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(bound.value)
                return true
            }
        }
        let upgrade = NIOTypedHTTPClientUpgradeConfiguration<Bool>(upgradeRequestHead: head, upgraders: [upgrader]) { channel in
            channel.eventLoop.makeSucceededFuture(false)
        }
        var configuration = NIOUpgradableHTTPClientPipelineConfiguration(upgradeConfiguration: upgrade)
        configuration.leftOverBytesStrategy = .forwardBytes
        let isOpen = try await ClientBootstrap(group: loop)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.recvAllocator, value: AdaptiveRecvByteBufferAllocator(minimum: 4 << 10, initial: 64 << 10, maximum: 1 << 20))
            .connect(to: target.address) { [configuration] channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureUpgradableHTTPClientPipeline(configuration: configuration)
                }
            }.get()
        guard isOpen else { throw ProtocolViolation("ComfyUI does not open a socket at \(target.path)/ws") }
        write(#"{"type": "feature_flags", "data": {"supports_preview_metadata": true}}"#)
    }

    /// The prompt that is to be submitted.
    func expect(_ prompt: String) { state = .open(prompt: prompt, outputs: 0) }

    /// When the expected prompt has ended, by `MonotonicClock`.
    func end() async throws -> UInt64 {
        try await withCheckedThrowingContinuation { continuation in
            switch state {
            case .open(let prompt, let outputs): state = .waiting(prompt: prompt, outputs: outputs, continuation)
            case .over(let result): continuation.resume(with: result.mapError { $0 })
            case .idle, .waiting: preconditionFailure("one prompt at a time")
            }
        }
    }

    func close() { context?.close(promise: nil) }

    private func write(_ text: String) {
        let frame = WebSocketFrame(fin: true, opcode: .text, maskKey: .random(), data: ByteBuffer(string: text))
        context?.writeAndFlush(wrapOutboundOut(frame), promise: nil)
    }

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func channelInactive(context: ChannelHandlerContext) {
        self.context = nil
        finish(.failure(ProtocolViolation("ComfyUI closed the socket")))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        finish(.failure(ProtocolViolation("socket: \(error)")))
        context.close(promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let frame = unwrapInboundIn(data)
        switch frame.opcode {
        case .text: take(text: frame.unmaskedData)
        case .binary: take(preview: frame.unmaskedData)
        case .ping:
            let pong = WebSocketFrame(fin: true, opcode: .pong, maskKey: .random(), data: frame.unmaskedData)
            context.writeAndFlush(wrapOutboundOut(pong), promise: nil)
        case .connectionClose: context.close(promise: nil)
        default: break
        }
    }

    /// Binary type 4: code, length of the metadata, metadata, JPEG.
    private func take(preview: ByteBuffer) {
        previews += 1
        guard let code = preview.getInteger(at: preview.readerIndex, as: UInt32.self), code == 4,
            let length = preview.getInteger(at: preview.readerIndex + 4, as: UInt32.self),
            let file = preview.viewBytes(at: preview.readerIndex + 8 + Int(length), length: preview.readableBytes - 8 - Int(length))
        else {
            previewFlaw = previewFlaw ?? "preview \(previews) has no metadata"
            return
        }
        previewBytes += file.count
        guard let stamp = PreviewStamp(file) else { return }  // a sampler's
        if stamp.number != nextStamp { previewFlaw = previewFlaw ?? "preview \(stamp.number) instead of \(nextStamp)" }
        nextStamp = stamp.number + 1
    }

    private static let interesting = [#"{"type": "executing""#, #"{"type": "executed""#, #"{"type": "execution_error""#].map { Array($0.utf8) }

    private func take(text: ByteBuffer) {
        let bytes = text.readableBytesView
        guard Self.interesting.contains(where: { bytes.starts(with: $0) }), let message = try? JSON(parsing: Array(bytes)), let data = message["data"],
            let prompt = data["prompt_id"]?.string, prompt == current
        else { return }
        switch message["type"]?.string {
        case "executed": addOutputs(data["output"]?["images"]?.array ?? [])
        case "executing" where data["node"] == .null: finish()
        case "execution_error": finish(.failure(ProtocolViolation("ComfyUI: \(String(buffer: text))")))
        default: break
        }
    }

    private var current: String? {
        switch state {
        case .open(let prompt, _), .waiting(let prompt, _, _): prompt
        case .idle, .over: nil
        }
    }

    private func addOutputs(_ pictures: [JSON]) {
        picture = pictures.last ?? picture
        switch state {
        case .open(let prompt, let outputs): state = .open(prompt: prompt, outputs: outputs + pictures.count)
        case .waiting(let prompt, let outputs, let continuation): state = .waiting(prompt: prompt, outputs: outputs + pictures.count, continuation)
        case .idle, .over: break
        }
    }

    private func finish() {
        switch state {
        case .open(_, let outputs), .waiting(_, let outputs, _):
            finish(outputs == 1 ? .success(MonotonicClock.now) : .failure(ProtocolViolation("\(outputs) pictures instead of 1")))
        case .idle, .over: break
        }
    }

    private func finish(_ result: Result<UInt64, ProtocolViolation>) {
        if case .waiting(_, _, let continuation) = state { continuation.resume(with: result.mapError { $0 }) }
        state = .over(result)
    }
}
