#if canImport(Darwin)
    import Darwin
#else
    import Glibc
#endif

/// Server-Sent Events, piece by piece as they arrive (WHATWG HTML, section 9.2). Only lines that are cut are kept; a stamped preview not even then:
/// its bytes go straight to the `Frame` that all viewers share.
struct EventStreamParser {
    enum Item {
        /// `data` is valid during the call.
        case event(name: String, id: String?, data: UnsafeRawBufferPointer)
        case preview(Frame, id: String?)
        case comment
    }

    private static let maximumLine = 64 << 20

    private enum Line {
        /// What there is of it is in `partial`.
        case small(isKnownUnstamped: Bool)
        case preview(Frame, offset: Int)
    }

    private var line = Line.small(isKnownUnstamped: false)
    private var partial: [UInt8] = []
    private var name = ""
    private var id: String?
    private var data: [UInt8] = []
    private var hasData = false
    private var preview: Frame?

    /// - Parameters:
    ///   - library: where stamped previews are looked up.
    ///   - previews: the name of the events that carry them, empty for events without a name.
    /// - Throws: `ProtocolViolation` when a preview is not what others have had, and what `handle` throws.
    mutating func parse(_ bytes: UnsafeRawBufferPointer, _ library: FrameLibrary?, previews: String, _ handle: (Item) throws -> Void) throws {
        guard var position = bytes.baseAddress else { return }
        let end = position + bytes.count
        while position < end {
            let newline = memchr(position, 0x0A, end - position).map { UnsafeRawPointer($0) }
            let piece = UnsafeRawBufferPointer(start: position, count: (newline ?? end) - position)
            position = newline.map { $0 + 1 } ?? end
            try take(piece, isEnd: newline != nil, library, previews, handle)
        }
    }

    private mutating func take(
        _ piece: UnsafeRawBufferPointer, isEnd: Bool, _ library: FrameLibrary?, _ previews: String, _ handle: (Item) throws -> Void
    ) throws {
        switch line {
        case .preview(let frame, let offset):
            try frame.accept(piece, at: offset)
            try go(on: frame, offset + piece.count, isEnd: isEnd, library)
        case .small(let isKnownUnstamped):
            guard !partial.isEmpty || !isEnd else { return try takeLine(piece, library, previews, handle) }
            partial += piece
            guard partial.count <= Self.maximumLine else { throw ProtocolViolation("a line of more than \(Self.maximumLine) bytes") }
            if isEnd {
                let whole = partial
                partial = []
                line = .small(isKnownUnstamped: false)
                try whole.withUnsafeBytes { try takeLine($0, library, previews, handle) }
            } else if !isKnownUnstamped, partial.count >= FrameLibrary.prefix {
                let isPreview = try partial.withUnsafeBytes { try begin($0, isEnd: false, library, previews) }
                if isPreview { partial = [] } else { line = .small(isKnownUnstamped: true) }
            }
        }
    }

    /// False when the line is no stamped preview.
    private mutating func begin(_ text: UnsafeRawBufferPointer, isEnd: Bool, _ library: FrameLibrary?, _ previews: String) throws -> Bool {
        guard let library, name == previews, !hasData, text.starts(with: Self.dataField) else { return false }
        let value = Self.value(text, behind: Self.dataField.count)
        guard let frame = library.frame(in: value) else { return false }
        try frame.accept(value, at: 0)
        try go(on: frame, value.count, isEnd: isEnd, library)
        return true
    }

    private mutating func go(on frame: Frame, _ offset: Int, isEnd: Bool, _ library: FrameLibrary?) throws {
        guard isEnd else { return line = .preview(frame, offset: offset) }
        line = .small(isKnownUnstamped: false)
        try frame.end(at: offset) { library?.flaw(in: $0) }
        preview = frame
    }

    private static let dataField = Array("data:".utf8), eventField = Array("event:".utf8), idField = Array("id:".utf8)

    /// One blank behind the colon is no part of it.
    private static func value(_ line: UnsafeRawBufferPointer, behind length: Int) -> UnsafeRawBufferPointer {
        let hasBlank = line.count > length && line[length] == UInt8(ascii: " ")
        return UnsafeRawBufferPointer(rebasing: line.dropFirst(hasBlank ? length + 1 : length))
    }

    private mutating func takeLine(
        _ text: UnsafeRawBufferPointer, _ library: FrameLibrary?, _ previews: String, _ handle: (Item) throws -> Void
    ) throws {
        var text = text
        if text.last == UInt8(ascii: "\r") { text = UnsafeRawBufferPointer(rebasing: text.dropLast()) }
        if text.isEmpty {
            try dispatch(handle)
        } else if text[0] == UInt8(ascii: ":") {
            try handle(.comment)
        } else if text.starts(with: Self.dataField) {
            guard try !begin(text, isEnd: true, library, previews) else { return }
            if hasData { data.append(0x0A) }
            data.append(contentsOf: Self.value(text, behind: Self.dataField.count))
            hasData = true
        } else if text.starts(with: Self.eventField) {
            name = String(decoding: Self.value(text, behind: Self.eventField.count), as: UTF8.self)
        } else if text.starts(with: Self.idField) {
            id = String(decoding: Self.value(text, behind: Self.idField.count), as: UTF8.self)
        }
    }

    private mutating func dispatch(_ handle: (Item) throws -> Void) throws {
        let (name, id, hasData, preview) = (name, id, hasData, preview)
        (self.name, self.id, self.hasData, self.preview) = ("", nil, false, nil)
        if let preview {
            try handle(.preview(preview, id: id))
        } else if hasData {
            let data = data
            self.data = []
            try data.withUnsafeBytes { try handle(.event(name: name, id: id, data: $0)) }
        }
    }
}
