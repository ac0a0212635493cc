import CMicroHTTPD

/// Takes a `multipart/form-data` body (RFC 7578, RFC 2046 section 5.1) apart as it arrives, in pieces of any size. Holds the headers of one
/// part at most, and of content only what may turn out to be a boundary.
///
/// libmicrohttpd's own post processor (0.9.75) does not do: it takes everything behind `boundary=` for the boundary, so that a further
/// parameter makes it find no part and report success; it calls an empty part and the begin of a part alike, so that two parts cannot be told
/// from one; a file named `my name=x.png` hides the name of its part, and so do `name=file` and `;name="file"`; it cuts names at an escaped
/// quote; it takes files of the type multipart/mixed apart; and it refuses what may follow the last boundary.
struct MultipartParser: Sendable {
    enum Event {
        case part(name: String, filename: String?, contentType: String?)
        /// Valid during the call only; never empty.
        case content(UnsafeRawBufferPointer)
    }

    private enum State {
        /// Before the first boundary.
        case preamble
        /// Behind a boundary, in the line that it begins.
        case boundary
        /// At the line end before the headers of a part.
        case headers
        /// At the empty line that ends them, which may be the line end of the next boundary at once.
        case emptyLine
        case content
        /// Behind the last boundary: what is there is ignored.
        case epilogue
    }

    /// Bytes of the headers of one part.
    private static let headerLimit = 8 * 1024
    /// Blanks behind a boundary.
    private static let paddingLimit = 256
    /// Bytes before the first boundary, and behind the last one, which nobody reads.
    private static let unreadLimit = 16 * 1024

    /// "\r\n--boundary"; its first byte occurs in it only once.
    private let delimiter: [UInt8]
    private var state = State.preamble
    /// Bytes of the preamble, then of the epilogue.
    private var unread = 0
    /// Bytes of headers that hold no empty line.
    private var searched = 0
    /// What is not taken apart yet. The line end makes the first boundary one like the others.
    private var held = Array("\r\n".utf8)

    init(boundary: String) {
        delimiter = Array("\r\n--\(boundary)".utf8)
    }

    /// - Throws: `FormUploadError.malformed`; the parser is of no use after it.
    mutating func parse(_ input: UnsafeRawBufferPointer, _ emit: (Event) -> Void) throws(FormUploadError) {
        guard state != .epilogue else { return try skip(input.count) }
        held.append(contentsOf: input)
        var bytes: [UInt8] = []
        swap(&bytes, &held)
        var taken = 0
        try bytes.span.bytes.withUnsafeBytes { bytes throws(FormUploadError) in
            while let count = try step(UnsafeRawBufferPointer(rebasing: bytes[taken...]), emit) { taken += count }
        }
        bytes.removeFirst(taken)
        held = bytes
    }

    private mutating func skip(_ count: Int) throws(FormUploadError) {
        unread += count
        guard unread <= Self.unreadLimit else {
            throw .malformed("The body has more than \(Self.unreadLimit) bytes \(state == .epilogue ? "behind its last" : "before its first") boundary.")
        }
    }

    /// The body is complete.
    func finish() throws(FormUploadError) {
        switch state {
        case .epilogue: return
        case .preamble: throw .malformed("The body has no part: the boundary of its Content-Type does not occur in it.")
        case .boundary, .headers, .emptyLine, .content: throw .malformed("The body ends before its last boundary.")
        }
    }

    /// - Returns: how much of `rest` is done with; nil if it takes more of it to go on.
    private mutating func step(_ rest: UnsafeRawBufferPointer, _ emit: (Event) -> Void) throws(FormUploadError) -> Int? {
        switch state {
        case .preamble, .content:
            let isContent = state == .content
            let end = rest.firstIndex(of: delimiter) ?? rest.count - rest.lengthOfEnd(thatBegins: delimiter)
            if !isContent {
                try skip(end)
            } else if end > 0 {
                emit(.content(UnsafeRawBufferPointer(rebasing: rest[..<end])))
            }
            guard end + delimiter.count <= rest.count else { return end > 0 ? end : nil }
            state = .boundary
            return end + delimiter.count
        case .boundary:
            guard rest.count >= 2 else { return nil }
            if rest.starts(with: "--".utf8) {
                state = .epilogue
                unread = 0
                try skip(rest.count - 2)
                return rest.count
            }
            let padding = rest.prefix { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }.count
            guard padding <= Self.paddingLimit else { throw .malformed("The line of a boundary is too long.") }
            guard rest.count >= padding + 2 else { return nil }
            guard rest[padding...].starts(with: "\r\n".utf8) else {
                throw .malformed("A boundary is followed by something else than the end of its line.")
            }
            state = .headers
            return padding
        case .headers:
            let from = max(0, searched - Self.emptyLine.count + 1)
            guard let found = UnsafeRawBufferPointer(rebasing: rest[from...]).firstIndex(of: Self.emptyLine), from + found <= Self.headerLimit else {
                if rest.count > Self.headerLimit { throw .malformed("The headers of a part are longer than \(Self.headerLimit) bytes.") }
                searched = rest.count
                return nil
            }
            searched = 0
            let end = from + found
            emit(try Self.part(UnsafeRawBufferPointer(rebasing: rest[..<end])))
            state = .emptyLine
            return end + 2
        case .emptyLine:
            if rest.starts(with: delimiter) {
                state = .boundary
                return delimiter.count
            }
            if delimiter.starts(with: rest) { return nil }
            state = .content
            return 2
        case .epilogue: return nil
        }
    }

    private static let emptyLine = Array("\r\n\r\n".utf8)
}

extension UnsafeRawBufferPointer {
    /// Where `needle` begins. By `memmem`, which is quick also where Swift's own loops are not: in debug builds.
    func firstIndex(of needle: [UInt8]) -> Int? {
        guard let baseAddress, let found = memmem(baseAddress, count, needle, needle.count) else { return nil }
        return UnsafeRawPointer(found) - baseAddress
    }

    /// How many of the last bytes are the begin of `delimiter`, whose first byte occurs in it only once.
    fileprivate func lengthOfEnd(thatBegins delimiter: [UInt8]) -> Int {
        let end = suffix(delimiter.count - 1)
        guard let start = end.lastIndex(of: delimiter[0]), delimiter.starts(with: end[start...]) else { return 0 }
        return end.endIndex - start
    }
}
