import NIOCore
import OrderedCollections
import OrderedJSON
import PreviewStamp

/// One reader of an event stream, on its own connection.
final class Viewer: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum Phase {
        case connecting
        /// The head has come.
        case answered
        case open(since: UInt64)
        /// The stream is over; files whose URLs it told are still to be fetched.
        case fetching(since: UInt64)
        case ended
    }

    private let number: Int
    private let audience: Audience
    private let request: ByteBuffer
    private let stopsReading: Bool
    private var phase = Phase.connecting
    private var response = HTTPResponseParser()
    private var events = EventStreamParser()
    private var context: ChannelHandlerContext?
    private var lastID: Int?
    private var lastPreview = -1
    private var outputs = 0
    private var finalStatus: String?
    /// Of previews that are to be fetched; ends with the stream.
    let links: AsyncStream<String>
    private let link: AsyncStream<String>.Continuation
    /// Over which they are; closed with the stream.
    var files: HTTPConnection?

    /// - Parameter stopsReading: whether it reads nothing more once it is open.
    init(_ number: Int, _ audience: Audience, request: ByteBuffer, stopsReading: Bool) {
        self.number = number
        self.audience = audience
        self.request = request
        self.stopsReading = stopsReading
        (links, link) = AsyncStream.makeStream()
    }

    /// Goes away; what it has not received does not count against anybody.
    func leave() {
        phase = .ended
        close()
    }

    private func close() {
        link.finish()
        files?.close()
        context?.close(promise: nil)
    }

    func channelActive(context: ChannelHandlerContext) {
        self.context = context
        context.writeAndFlush(wrapOutboundOut(request), promise: nil)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        audience.received(bytes: buffer.readableBytes)
        do {
            try buffer.withUnsafeReadableBytes { bytes in try response.parse(bytes) { try take($0) } }
        } catch {
            fail("\(error)")
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.context = nil
        switch phase {
        case .fetching, .ended: return
        case .connecting, .answered, .open: break
        }
        do {
            try response.close { try take($0) }
            fail("the connection ended")
        } catch {
            fail("\(error)")
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { fail("\(error)") }

    func fail(_ text: String) {
        if case .ended = phase { return }
        audience.complain("viewer \(number): \(text)")
        end()
    }

    private func end() {
        if case .ended = phase { return }
        open()
        phase = .ended
        close()
        if !stopsReading { audience.ended.count() }
    }

    /// Counts it as opened, once.
    private func open() {
        switch phase {
        case .connecting, .answered: break
        case .open, .fetching, .ended: return
        }
        phase = .open(since: MonotonicClock.now)
        audience.opened.count()
        // Fails only on a channel that is closed already, which reads nothing either.
        if stopsReading { try? context?.channel.syncOptions?.setOption(.autoRead, value: false) }
    }

    private func take(_ piece: HTTPResponseParser.Piece) throws {
        switch piece {
        case .head(let head):
            guard head.status == 200, head["content-type"]?.hasPrefix("text/event-stream") == true else {
                throw ProtocolViolation("status \(head.status), \(head["content-type"] ?? "no content type")")
            }
            phase = .answered
            if audience.dialect == .plain { open() }
        case .body(let bytes):
            try events.parse(bytes, audience.library, previews: audience.previewEvent) { try take($0) }
        case .end:
            guard audience.dialect == .plain || finalStatus != nil else { throw ProtocolViolation("the stream ended before the job") }
            guard audience.fetchesPreviews, case .open(let since) = phase else { return end() }
            phase = .fetching(since: since)
            link.finish()
        }
    }

    private func take(_ item: EventStreamParser.Item) throws {
        switch item {
        case .comment:
            audience.receivedHeartbeat()
        case .preview(let frame, let id):
            audience.receivedEvent()
            try check(id)
            try take(frame)
        case .event(let name, let id, let data):
            audience.receivedEvent()
            try check(id)
            try take(name, data)
        }
        if case .answered = phase { open() }
    }

    private func take(_ frame: Frame) throws {
        guard frame.stamp.number > lastPreview else { throw ProtocolViolation("preview \(frame.stamp.number) after \(lastPreview)") }
        lastPreview = frame.stamp.number
        switch phase {
        case .open(let since) where !stopsReading, .fetching(let since): audience.received(frame, counts: frame.stamp.sentAt >= since)
        case .connecting, .answered, .open, .ended: break
        }
    }

    /// What came from one of the `links`. Nothing, where it was too late for a preview: only the newest are kept.
    func take(_ answer: Answer) {
        audience.received(bytes: answer.body.count)
        guard answer.status != 404 else { return }
        do {
            guard answer.status == 200 else { throw ProtocolViolation("a preview has status \(answer.status): \(answer.text)") }
            if let frame = try audience.library?.frame(ofFile: answer.body) { try take(frame) }
        } catch {
            fail("\(error)")
        }
    }

    /// No more comes from the `links`.
    func fetchedAll() {
        if case .fetching = phase { end() }
    }

    /// Ids of the bridge rise by one; those of others are anything.
    private func check(_ text: String?) throws {
        guard audience.dialect == .bridge, let text else { return }
        guard let id = Int(text), lastID.map({ id == $0 + 1 }) ?? true else { throw ProtocolViolation("id \(text) after \(lastID ?? 0)") }
        lastID = id
    }

    private func take(_ name: String, _ data: UnsafeRawBufferPointer) throws {
        guard audience.dialect == .bridge else {
            if audience.library != nil { throw ProtocolViolation("an event without a stamped preview") }
            return
        }
        switch name {
        case "preview" where audience.fetchesPreviews:
            guard let url = try JSON(parsing: Array(data))["url"]?.string else { throw ProtocolViolation("a preview without a URL") }
            if !stopsReading { link.yield(Target.path(of: url)) }
        case "preview":
            if audience.library != nil { throw ProtocolViolation("a preview without a stamp") }
        case "reset": throw ProtocolViolation("the stream was reset")
        case "dropped": audience.wasTold(dropped: try JSON(parsing: Array(data))["previews"]?.int ?? 0)
        case "output": outputs += 1
        case "status":
            let status = try JSON(parsing: Array(data))["status"]?.string ?? "no status"
            guard !["queued", "running"].contains(status) else { return }
            guard status == "succeeded" else { throw ProtocolViolation("the job ended as \(status)") }
            guard outputs == 1 else { throw ProtocolViolation("\(outputs) outputs instead of 1") }
            finalStatus = status
        default: break
        }
    }
}
