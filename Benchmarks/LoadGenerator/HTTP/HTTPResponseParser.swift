/// Status line and fields of an answer.
struct ResponseHead: Equatable {
    let status: Int
    /// Names in lower case.
    let fields: [(name: String, value: String)]

    subscript(_ name: String) -> String? { fields.first { $0.name == name }?.value }

    static func == (one: Self, other: Self) -> Bool { one.status == other.status && one.fields.elementsEqual(other.fields, by: ==) }
}

struct ProtocolViolation: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// HTTP/1.1 answers, piece by piece as they arrive. Bodies are handed on where they lie: nothing of them is kept or copied.
struct HTTPResponseParser {
    enum Piece {
        case head(ResponseHead)
        case body(UnsafeRawBufferPointer)
        case end
    }

    private enum State {
        case head
        case body(left: Int)
        case untilClose
        /// Nil: no digit so far.
        case chunkSize(Int?, isExtension: Bool)
        case chunk(left: Int)
        /// The line break behind a chunk.
        case chunkEnd
        case trailers
    }

    private static let maximumHead = 64 << 10

    private var state = State.head
    /// A head or a line of which more is to come.
    private var partial: [UInt8] = []

    /// True between two answers.
    var isIdle: Bool { if case .head = state { partial.isEmpty } else { false } }

    /// - Throws: `ProtocolViolation`, or what `handle` throws.
    mutating func parse(_ bytes: UnsafeRawBufferPointer, _ handle: (Piece) throws -> Void) throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            switch state {
            case .head:
                guard let lines = try takeHead(&rest) else { return }
                try begin(lines, handle)
            case .body(let left):
                let piece = rest.prefix(left)
                rest = rest.dropFirst(left)
                state = .body(left: left - piece.count)
                try handle(.body(UnsafeRawBufferPointer(rebasing: piece)))
                if left == piece.count { try finish(handle) }
            case .untilClose:
                defer { rest = rest.dropFirst(rest.count) }
                try handle(.body(UnsafeRawBufferPointer(rebasing: rest)))
            case .chunkSize(let size, let isExtension):
                state = try chunkSize(size, isExtension, rest.removeFirst())
            case .chunk(let left):
                let piece = rest.prefix(left)
                rest = rest.dropFirst(left)
                state = left == piece.count ? .chunkEnd : .chunk(left: left - piece.count)
                try handle(.body(UnsafeRawBufferPointer(rebasing: piece)))
            case .chunkEnd:
                switch rest.removeFirst() {
                case UInt8(ascii: "\r"): break
                case UInt8(ascii: "\n"): state = .chunkSize(nil, isExtension: false)
                default: throw ProtocolViolation("a chunk is longer than it says")
                }
            case .trailers:
                guard let line = try takeLine(&rest) else { return }
                if line.isEmpty { try finish(handle) }
            }
        }
    }

    /// The connection has ended.
    ///
    /// - Throws: when an answer is cut short.
    mutating func close(_ handle: (Piece) throws -> Void) throws {
        if case .untilClose = state { return try finish(handle) }
        guard isIdle else { throw ProtocolViolation("the connection ended in the middle of an answer") }
    }

    private func chunkSize(_ size: Int?, _ isExtension: Bool, _ byte: UInt8) throws -> State {
        switch byte {
        case UInt8(ascii: "\n"):
            guard let size else { throw ProtocolViolation("a chunk without a size") }
            return size == 0 ? .trailers : .chunk(left: size)
        case UInt8(ascii: "\r"): return .chunkSize(size, isExtension: isExtension)
        case UInt8(ascii: ";"), UInt8(ascii: " "): return .chunkSize(size, isExtension: true)
        case _ where isExtension: return .chunkSize(size, isExtension: true)
        default:
            guard let digit = Character(UnicodeScalar(byte)).hexDigitValue, size ?? 0 < 1 << 40 else { throw ProtocolViolation("no chunk size") }
            return .chunkSize((size ?? 0) << 4 + digit, isExtension: false)
        }
    }

    private mutating func finish(_ handle: (Piece) throws -> Void) throws {
        state = .head
        try handle(.end)
    }

    private mutating func takeHead(_ rest: inout Slice<UnsafeRawBufferPointer>) throws -> [[UInt8]]? {
        while let line = try takeLine(&rest, keepsLines: true) {
            guard line.isEmpty else { continue }
            let lines = partial.split(separator: UInt8(ascii: "\n")).map { $0.last == UInt8(ascii: "\r") ? Array($0.dropLast()) : Array($0) }
            partial = []
            return lines.filter { !$0.isEmpty }
        }
        return nil
    }

    /// Nil: more is to come. With `keepsLines` they stay in `partial`, one behind the other.
    private mutating func takeLine(_ rest: inout Slice<UnsafeRawBufferPointer>, keepsLines: Bool = false) throws -> [UInt8]? {
        let newline = rest.firstIndex(of: UInt8(ascii: "\n"))
        let lineStart = keepsLines ? (partial.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0) : 0
        partial += rest[..<(newline.map { $0 + 1 } ?? rest.endIndex)]
        guard partial.count <= Self.maximumHead else { throw ProtocolViolation("a head of more than \(Self.maximumHead) bytes") }
        rest = rest[(newline.map { $0 + 1 } ?? rest.endIndex)...]
        guard newline != nil else { return nil }
        var line = Array(partial[lineStart...].dropLast())
        if line.last == UInt8(ascii: "\r") { line.removeLast() }
        if !keepsLines { partial.removeAll(keepingCapacity: true) }
        return line
    }

    private mutating func begin(_ lines: [[UInt8]], _ handle: (Piece) throws -> Void) throws {
        let texts = lines.map { String(decoding: $0, as: UTF8.self) }
        let words = texts.first?.split(separator: " ") ?? []
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
            throw ProtocolViolation("no HTTP answer: \(texts.first ?? "")")
        }
        let fields = texts.dropFirst().compactMap { line -> (name: String, value: String)? in
            guard let colon = line.firstIndex(of: ":") else { return nil }
            return (line[..<colon].lowercased(), String(line[line.index(after: colon)...].drop { $0 == " " }))
        }
        let head = ResponseHead(status: status, fields: fields)
        if status < 200, status != 101 { return }  // an interim answer; the real one follows
        if head["transfer-encoding"]?.lowercased().contains("chunked") == true {
            state = .chunkSize(nil, isExtension: false)
        } else if let length = head["content-length"] {
            guard let length = Int(length), length >= 0 else { throw ProtocolViolation("no content length: \(length)") }
            state = .body(left: length)
        } else {
            state = status == 204 || status == 304 ? .body(left: 0) : .untilClose
        }
        try handle(.head(head))
        if case .body(left: 0) = state { try finish(handle) }
    }
}
