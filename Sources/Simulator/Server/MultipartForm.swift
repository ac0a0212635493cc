import NIOHTTP1

/// A `multipart/form-data` body (RFC 7578), as far as uploads need it.
struct MultipartForm {
    struct Part {
        let name: String
        /// Nil for a text field.
        let filename: String?
        let data: ArraySlice<UInt8>
    }

    let parts: [Part]

    init() { parts = [] }

    /// Nil when the request is no form.
    init?(_ request: Request) {
        guard let type = request.headers.first(name: "content-type"), type.lowercased().hasPrefix("multipart/form-data"),
            let boundary = Self.parameter("boundary", of: type)
        else { return nil }
        parts = Self.split(request.body, boundary: boundary)
    }

    /// The first part of that name.
    subscript(name: String) -> Part? { parts.first { $0.name == name } }

    func text(_ name: String) -> String? { self[name].map { String(decoding: $0.data, as: UTF8.self) } }

    private static func split(_ body: [UInt8], boundary: String) -> [Part] {
        let delimiter = Array("--\(boundary)".utf8)
        var parts: [Part] = []
        guard var start = find(delimiter, in: body[...])?.upperBound else { return [] }
        while let next = find([13, 10] + delimiter, in: body[start...]) {
            if let part = part(body[start..<next.lowerBound]) { parts.append(part) }
            start = next.upperBound
        }
        return parts
    }

    /// `\r\n`, header lines, an empty line, data.
    private static func part(_ text: ArraySlice<UInt8>) -> Part? {
        guard let end = find([13, 10, 13, 10], in: text) else { return nil }
        for line in String(decoding: text[..<end.lowerBound], as: UTF8.self).split(whereSeparator: \.isNewline) {
            guard line.lowercased().hasPrefix("content-disposition:"), let name = parameter("name", of: line) else { continue }
            return Part(name: name, filename: parameter("filename", of: line), data: text[end.upperBound...])
        }
        return nil
    }

    /// The value of `name=value` or `name="value"` behind a semicolon.
    private static func parameter(_ name: String, of header: some StringProtocol) -> String? {
        var rest = Substring(header)
        while let semicolon = rest.firstIndex(of: ";") {
            rest = rest[rest.index(after: semicolon)...].drop { $0 == " " }
            guard rest.lowercased().hasPrefix(name + "=") else { continue }
            let value = rest.dropFirst(name.count + 1)
            guard value.hasPrefix("\"") else { return String(value.prefix { $0 != ";" && $0 != " " }) }
            var text = "", isEscaped = false
            for character in value.dropFirst() {
                if isEscaped || character != "\\" && character != "\"" { text.append(character) } else if character == "\"" { return text }
                isEscaped = !isEscaped && character == "\\"
            }
            return nil
        }
        return nil
    }

    private static func find(_ pattern: [UInt8], in text: ArraySlice<UInt8>) -> Range<Int>? {
        guard let first = pattern.first, text.count >= pattern.count else { return nil }
        var index = text.startIndex
        let last = text.endIndex - pattern.count
        while index <= last {
            guard let candidate = text[index...last].firstIndex(of: first) else { return nil }
            if text[candidate..<candidate + pattern.count].elementsEqual(pattern) { return candidate..<candidate + pattern.count }
            index = candidate + 1
        }
        return nil
    }
}
