#if canImport(Darwin)
    import Darwin
#else
    import Glibc
#endif
import Foundation
import PreviewStamp

/// One preview as the viewers get it: the text of a `data:` line, or the file. Whoever is furthest writes it down, everybody else's bytes are compared with that,
/// and when it is whole it is checked once. So every byte of every viewer is checked, at the price of one comparison.
final class Frame {
    let stamp: PreviewStamp
    /// By `MonotonicClock`.
    private(set) var firstReceived: UInt64?
    private(set) var lastReceived: UInt64 = 0
    private(set) var receivers = 0
    private var text: [UInt8] = []
    private var isWhole = false

    init(_ stamp: PreviewStamp) { self.stamp = stamp }

    /// - Throws: when the bytes are not the ones that others have there.
    func accept(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws {
        let known = min(bytes.count, text.count - offset)
        guard let start = bytes.baseAddress else { return }
        if known > 0, text.withUnsafeBytes({ memcmp($0.baseAddress! + offset, start, known) }) != 0 {
            throw ProtocolViolation("preview \(stamp.number) differs between viewers")
        }
        guard known < bytes.count else { return }
        guard !isWhole else { throw ProtocolViolation("preview \(stamp.number) is longer for one viewer than for another") }
        text += bytes.dropFirst(known)
    }

    /// A viewer has had the whole line.
    ///
    /// - Parameter check: says what is wrong with the line.
    func end(at offset: Int, check: ([UInt8]) -> String?) throws {
        guard offset == text.count else { throw ProtocolViolation("preview \(stamp.number) is shorter for one viewer than for another") }
        guard !isWhole else { return }
        isWhole = true
        if let flaw = check(text) { throw ProtocolViolation("preview \(stamp.number): \(flaw)") }
    }

    func received(at time: UInt64) {
        if firstReceived == nil { firstReceived = time }
        lastReceived = max(lastReceived, time)
        receivers += 1
    }

    /// Nobody will get it any more; its bytes go.
    func forgetText() { text = [] }
}

/// The previews of a run, known by the stamps in their first bytes.
final class FrameLibrary {
    /// How many bytes of a line contain the stamp, whatever comes before it in the JSON.
    static let prefix = 640

    /// The JPEG's bytes; nil: any number.
    let size: Int?
    /// Whether the line is a JSON object with the picture in it, rather than the picture alone.
    let isJSON: Bool
    private(set) var frames: [Int: Frame] = [:]

    init(size: Int?, isJSON: Bool) {
        self.size = size
        self.isJSON = isJSON
    }

    /// Nil when the line has no stamp in its first bytes.
    func frame(in line: UnsafeRawBufferPointer) -> Frame? {
        Self.stamp(in: line).map(frame)
    }

    /// - Throws: when it is not a whole preview, or not the one that others have had.
    func frame(ofFile bytes: [UInt8]) throws -> Frame {
        guard let stamp = PreviewStamp(bytes) else { throw ProtocolViolation("a preview without a stamp") }
        let frame = frame(stamp)
        try bytes.withUnsafeBytes { try frame.accept($0, at: 0) }
        try frame.end(at: bytes.count) { PreviewStamp.flaw(in: $0, size: size) }
        return frame
    }

    private func frame(_ stamp: PreviewStamp) -> Frame {
        if let known = frames[stamp.number] { return known }
        let frame = Frame(stamp)
        frames[stamp.number] = frame
        return frame
    }

    /// What is wrong with a whole line.
    func flaw(in text: [UInt8]) -> String? {
        guard let begin = text.withUnsafeBytes({ Self.pictureOffset(in: UnsafeRawBufferPointer(rebasing: $0.prefix(Self.prefix))) }) else {
            return "it has no picture"
        }
        let end = text[begin...].firstIndex(of: UInt8(ascii: "\"")) ?? text.endIndex
        guard isJSON || end == text.endIndex else { return "there is something behind the picture" }
        if isJSON, (try? JSONSerialization.jsonObject(with: Data(text))) as? [String: Any] == nil { return "it is no JSON" }
        guard let picture = Data(base64Encoded: Data(text[begin..<end])) else { return "it is no base64" }
        return PreviewStamp.flaw(in: Array(picture), size: size)
    }

    private static let start = Array("/9j//g".utf8)
    private static let stampCharacters = (PreviewStamp.length + 2) / 3 * 4

    private static func pictureOffset(in line: UnsafeRawBufferPointer) -> Int? {
        var from = 0
        while let slash = line[from...].firstIndex(of: start[0]) {
            if line[slash...].starts(with: start) { return slash }
            from = slash + 1
        }
        return nil
    }

    private static func stamp(in line: UnsafeRawBufferPointer) -> PreviewStamp? {
        let line = UnsafeRawBufferPointer(rebasing: line.prefix(prefix))
        guard let offset = pictureOffset(in: line), offset + stampCharacters <= line.count,
            let bytes = Data(base64Encoded: Data(line[offset..<offset + stampCharacters]))
        else { return nil }
        return PreviewStamp(bytes)
    }
}
