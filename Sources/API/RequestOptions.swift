import MicroHTTP
package import OrderedJSON
import Wording

/// Reading of headers and query parameters. A value that cannot be used is an error that says what to write, never ignored.
extension Request {
    /// A query parameter with one of a few values.
    package func choice<Choice: RawRepresentable & CaseIterable>(_ name: String, default fallback: Choice) throws -> Choice where Choice.RawValue == String {
        guard let text = queryValue(name) else { return fallback }
        guard let choice = Choice.allCases.first(where: { $0.rawValue.hasSameBytes(as: text) }) else {
            let possible = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw APIError.invalidParameter(name, "The query parameter \(name) is '\(text.excerpt)'; it must be one of: \(possible).")
        }
        return choice
    }

    /// A query parameter that is 1 or 0.
    package func flag(_ name: String) throws(APIError) -> Bool {
        guard let text = queryValue(name) else { return false }
        switch Name(text) {
        case "0", "false": return false
        case "1", "true", "": return true
        default: throw APIError.invalidParameter(name, "The query parameter \(name) is '\(text.excerpt)'; it must be 1 or 0.")
        }
    }

    /// A query parameter that is a whole number.
    package func integer(_ name: String, default fallback: Int, in range: ClosedRange<Int>) throws -> Int {
        guard let text = queryValue(name) else { return fallback }
        guard let value = Int(text), range.contains(value) else {
            throw APIError.invalidParameter(
                name,
                "The query parameter \(name) is '\(text.excerpt)'; it must be a whole number from \(range.lowerBound) to \(range.upperBound).")
        }
        return value
    }

    /// A duration in seconds, greater than zero.
    package func seconds(_ name: String) throws -> Duration? {
        guard let text = queryValue(name) else { return nil }
        let isDecimal = text.utf8.allSatisfy { UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 || $0 == UInt8(ascii: ".") }
        guard isDecimal, let value = Double(text), value > 0, value <= 1e9 else {
            throw APIError.invalidParameter(name, "The query parameter \(name) is '\(text.excerpt)'; it must be a number of seconds greater than 0.")
        }
        return .seconds(value)
    }

    /// Where a viewer of the event stream wants to go on: header `Last-Event-ID`, else the query parameter.
    func lastEventID() throws -> UInt64? {
        let (name, value) = headers["Last-Event-ID"].map { ("Last-Event-ID", $0) } ?? ("last_event_id", queryValue("last_event_id") ?? "")
        guard !value.isEmpty else { return nil }
        guard let id = UInt64(value) else {
            throw APIError.invalidParameter(name, "\(name) is '\(value.excerpt)'; it must be the id of an event of this job, a whole number.")
        }
        return id
    }
}

extension Request {
    /// Values in a body, those inside of others counted too. The largest workflows that people publish have some ten thousand.
    private static let valueLimit = 500_000

    /// The body.
    ///
    /// - Parameter expected: what to send, for the message when it is no JSON.
    package func json(_ expected: String) throws -> JSON {
        if let encoding = headers["Content-Encoding"], encoding.lowercased() != "identity" {
            throw APIError.invalidParameter("Content-Encoding", "The body is compressed (\(encoding.excerpt)); send it as it is.")
        }
        guard !body.isEmpty else { throw APIError.invalidJSON("The body is empty. \(expected)") }
        do { return try JSON(parsing: body, limit: Self.valueLimit) } catch {
            if error.isTooMuch { throw APIError.tooManyValues(limit: Self.valueLimit) }
            throw APIError.invalidJSON(misreading(of: body) ?? "The body is not JSON: \(error). \(expected)")
        }
    }

    /// What somebody did who sent JSON in another form than as its bytes; nil when that is not to be seen.
    private func misreading(of body: [UInt8]) -> String? {
        if body.starts(with: [0xFF, 0xFE]) || body.starts(with: [0xFE, 0xFF]) || body.prefix(4).contains(0) {
            return "The body is UTF-16 text; JSON must be UTF-8. Windows PowerShell writes UTF-16 with > and Out-File: write the file with "
                + "Set-Content -Encoding utf8, and send it with curl.exe --data-binary '@workflow_api.json'."
        }
        if headers["Content-Type"]?.mediaType == "multipart/form-data" {
            return "The body is a form; send the JSON itself, for example with curl --data-binary @workflow_api.json instead of curl -F."
        }
        return nil
    }

    func idempotencyKey() throws -> String? {
        guard let key = headers["Idempotency-Key"] else { return nil }
        guard headers.values("Idempotency-Key").count == 1 else {
            throw APIError.invalidParameter("Idempotency-Key", "There are several Idempotency-Key headers; send one.")
        }
        guard !key.isEmpty, key.utf8.count <= 256 else {
            throw APIError.invalidParameter("Idempotency-Key", "Idempotency-Key must have 1 to 256 characters, for example a new UUID.")
        }
        return key
    }
}

extension StringProtocol {
    /// The elements of a list in a header, empty ones too. A separator in a quoted string is none (RFC 9110 sections 5.6.1 and 5.6.4).
    fileprivate func split(at separator: Unicode.Scalar) -> [SubSequence] {
        var (isQuoted, isEscaped) = (false, false)
        return split(omittingEmptySubsequences: false) { character in
            defer { isEscaped = isQuoted && !isEscaped && character == "\\" }
            if character == "\"", !isEscaped { isQuoted.toggle() }
            return !isQuoted && character.unicodeScalars.first == separator
        }
    }
}

/// RFC 7240.
struct Prefer: Sendable, Equatable {
    /// How long to block; nil when the caller does not say.
    var wait: Duration?
    /// The caller knows what to do with a 202.
    var isAsync = false
    /// For `Preference-Applied`: what of the header is known here.
    var applied: String?

    init(_ request: Request) throws {
        for preference in request.headers.values("Prefer").flatMap({ $0.split(at: ",") }) {
            let parts = (preference.split(at: ";").first ?? "").split(separator: "=", maxSplits: 1).map { $0.trimmed }
            switch parts.first?.lowercased() {
            case "respond-async": isAsync = true
            // Of several the first counts (RFC 7240 section 2).
            case "wait" where wait == nil:
                let text = parts.count > 1 ? parts[1].filter { $0 != "\"" } : ""
                guard let seconds = Int(text), (0...86_400).contains(seconds) else {
                    throw APIError.invalidParameter("Prefer", "Prefer: wait=\(text.excerpt) is not possible; write whole seconds, as in Prefer: wait=30.")
                }
                wait = .seconds(seconds)
            default: break  // RFC 7240 section 2: what is not known is ignored
            }
        }
        let known = [isAsync ? "respond-async" : nil, wait.map { "wait=\($0.components.seconds)" }].compactMap(\.self)
        if !known.isEmpty { applied = known.joined(separator: ", ") }
        if isAsync, wait == nil { wait = .zero }
    }
}

/// RFC 9110 section 12.5.1: what the caller of `/run` wants to have.
package struct Accept: Sendable, Equatable {
    enum Answer: Sendable, Equatable { case json, events, content }

    struct MediaRange: Sendable, Equatable {
        let type: String
        let subtype: String

        func matches(_ contentType: String) -> Bool {
            let parts = contentType.mediaType.split(separator: "/", maxSplits: 1)
            return parts.count == 2 && (type == "*" || type == parts[0]) && (subtype == "*" || subtype == parts[1])
        }
    }

    let answer: Answer
    /// The content types wanted, best first, when the answer is the bytes of an output.
    var ranges: [MediaRange] = []
    /// Whether JSON would do as well.
    var allowsJSON = false
    /// What is no output would be taken for one.
    var isOnlyContent: Bool { answer == .content && !allowsJSON }

    /// Ranges that are looked at.
    private static let rangeLimit = 64
    private static let contentTypes: Set<String> = ["image", "video", "audio", "model", "text"]

    init(_ request: Request) throws {
        let wanted = request.headers.values("Accept").flatMap { $0.split(at: ",") }.compactMap(Accept.range)
            .filter { $0.quality > 0 }.enumerated()
            .sorted { ($1.element.quality, $0.offset) < ($0.element.quality, $1.offset) }.map(\.element.range).prefix(Self.rangeLimit)
        // One that is empty is one that a client forgot to fill in.
        allowsJSON = request.headers.values("Accept").allSatisfy { $0.trimmed.isEmpty }
        for range in wanted {
            switch (range.type, range.subtype) {
            case ("*", "*"), ("application", "*"), ("application", "json"), ("application", "problem+json"): allowsJSON = true
            case ("text", "event-stream"):
                if ranges.isEmpty, !allowsJSON {
                    answer = .events
                    return
                }
            case ("text", "html"): break
            case ("application", _): ranges.append(range)
            case (let type, _) where Accept.contentTypes.contains(type):
                // What is wanted less than JSON is not wanted.
                if !allowsJSON { ranges.append(range) }
            default: break
            }
        }
        if allowsJSON, ranges.isEmpty {
            answer = .json
        } else if !ranges.isEmpty {
            answer = .content
        } else {
            throw APIError.notAcceptable(
                "Accept names nothing that a job can answer with. Use application/json, text/event-stream, or the type of an output such as image/png or video/*.")
        }
    }

    private static func range(_ text: Substring) -> (range: MediaRange, quality: Double)? {
        let parts = text.split(at: ";").map { $0.trimmed.lowercased() }
        guard let name = parts.first?.split(separator: "/", maxSplits: 1), name.count == 2 else { return nil }
        let quality = parts.dropFirst().first { $0.hasPrefix("q=") }.flatMap { Double($0.dropFirst(2)) } ?? 1
        return (MediaRange(type: String(name[0]), subtype: String(name[1])), quality)
    }
}

/// RFC 9110 section 14.2, one range of bytes.
enum ByteRange: Equatable {
    case whole
    case part(Range<Int>)

    /// - Throws: 400 for what is no range, 416 for one beyond the end. Several ranges are answered with the whole (RFC 9110 section 14.2
    ///   lets a server ignore the header).
    init(_ header: String?, size: Int) throws {
        guard let header else {
            self = .whole
            return
        }
        let invalid = APIError.invalidParameter("Range", "Range is '\(header.excerpt)'; write bytes=FIRST-LAST, bytes=FIRST- or bytes=-COUNT.")
        // RFC 9110 section 14.2: a unit that is not known is ignored.
        if let mark = header.utf8.firstIndex(of: UInt8(ascii: "=")), header[..<mark].lowercased() != "bytes" {
            self = .whole
            return
        }
        guard header.lowercased().hasPrefix("bytes=") else { throw invalid }
        let specifiers = header.dropFirst(6).split(separator: ",", omittingEmptySubsequences: false)
        guard specifiers.count == 1 else {
            self = .whole
            return
        }
        let bounds = specifiers[0].split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map { $0.trimmed }
        guard bounds.count == 2 else { throw invalid }
        switch (Int(bounds[0]), Int(bounds[1])) {
        case (nil, let count?) where bounds[0].isEmpty && count >= 0:
            guard count > 0, size > 0 else { throw APIError.rangeNotSatisfiable(size: size) }
            self = .part(max(0, size - count)..<size)
        case (let first?, nil) where bounds[1].isEmpty && first >= 0:
            guard first < size else { throw APIError.rangeNotSatisfiable(size: size) }
            self = .part(first..<size)
        case (let first?, let last?) where first >= 0 && last >= first:
            guard first < size else { throw APIError.rangeNotSatisfiable(size: size) }
            self = .part(first..<min(last, size - 1) + 1)
        default:
            throw invalid
        }
    }
}
