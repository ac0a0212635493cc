import NIOCore
import NIOHTTP1

/// Answers of HTTP that go wrong.
extension FaultPoints {
    /// Wherever the control endpoint is, no fault is.
    static let controlPath = "/simulator/"

    private static let answerBits: UInt64 =
        ([
            .error, .errorAfter, .hangUp, .noAnswer, .delayAnswer, .html, .garbage, .endless, .slow, .breakOff,
        ] as [Fault.Kind]).reduce(0) { $0 | $1.bit }

    /// The answer, or what faults make of it. On the event loop.
    func disturb(_ method: HTTPMethod, _ path: String, answer: () -> Reply) -> Reply {
        guard switches.isArmed(any: Self.answerBits), !path.hasPrefix(Self.controlPath) else { return answer() }
        let subject = Self.subject(method, path)
        func strike(_ kind: Fault.Kind) -> Fault? { switches.strike(kind, subject: { subject }) }
        if strike(.hangUp) != nil { return Reply(body: .hangUp) }
        if let status = strike(.error)?.number { return failure(status) }
        var reply = answer()
        if strike(.noAnswer) != nil { return Reply(body: .hangUp) }
        if let status = strike(.errorAfter)?.number { reply = failure(status) }
        if let status = strike(.html)?.number { reply = Self.page(status) }
        if strike(.garbage) != nil { reply = Self.garbage }
        if strike(.endless) != nil { reply = Self.endless }
        if let percent = strike(.breakOff)?.number { reply.delivery.percent = percent }
        if let rate = strike(.slow)?.number { reply.delivery.bytesPerSecond = rate }
        if let delay = strike(.delayAnswer)?.number { reply.delivery.delay = .milliseconds(Int64(delay)) }
        return reply
    }

    /// What an upgrade request gets instead of a socket; nil is the socket.
    func refusal(_ head: HTTPRequestHead) -> Reply? {
        guard switches.isArmed(any: Self.answerBits) else { return nil }
        let subject = Self.subject(head.method, String(head.uri.prefix { $0 != "?" }))
        func strike(_ kind: Fault.Kind) -> Fault? { switches.strike(kind, subject: { subject }) }
        if strike(.hangUp) != nil || strike(.noAnswer) != nil { return Reply(body: .hangUp) }
        if let status = (strike(.error) ?? strike(.errorAfter))?.number { return failure(status) }
        if let status = strike(.html)?.number { return Self.page(status) }
        if strike(.garbage) != nil { return Self.garbage }
        return strike(.endless) != nil ? Self.endless : nil
    }

    private static func subject(_ method: HTTPMethod, _ path: String) -> String {
        "\(method.rawValue) \(path.hasPrefix("/api/") ? String(path.dropFirst(4)) : path)"
    }

    /// As ComfyUI words it, where it does.
    private func failure(_ code: Int) -> Reply {
        switch code {
        case 500: return .inTrouble
        case 413: return .tooLarge(limit: maximumUploadSize)
        default:
            let status = HTTPResponseStatus(statusCode: code)
            return .text("\(code): \(status.reasonPhrase)", status: status)
        }
    }

    private static func page(_ status: Int) -> Reply {
        let html = "<!DOCTYPE html>\n<html><head><title>Just a moment...</title></head><body>A proxy says hello.</body></html>\n"
        return Reply(
            status: HTTPResponseStatus(statusCode: status), headers: ["Content-Type": "text/html; charset=utf-8"], body: .bytes(Array(html.utf8)))
    }

    /// Cut off within a string, with a byte that is not UTF-8.
    private static let garbage = Reply(
        headers: ["Content-Type": "application/json; charset=utf-8"], body: .bytes(Array(#"{"prompt_id": "0"#.utf8) + [0xFF, 0xFE, 0x00]))

    /// A JSON list without an end.
    private static let endless = Reply(
        headers: ["Content-Type": "application/json; charset=utf-8"], body: .endless(Array(String(repeating: "[0, ", count: 16_384).utf8)))
}
