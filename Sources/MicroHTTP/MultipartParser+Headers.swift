extension MultipartParser {
    /// - Parameter headers: of a part, each line with the line end before it, up to the empty line.
    static func part(_ headers: UnsafeRawBufferPointer) throws(FormUploadError) -> Event {
        let fields = try fields(headers)
        // RFC 7578 section 4.7 does away with it. Decoding is not done here, and stored as it came the content would be another.
        if let encoding = fields["Content-Transfer-Encoding"], !["binary", "8bit", "7bit"].contains(where: { HTTPHeaders.isSame($0, encoding) }) {
            throw .malformed("A part has the Content-Transfer-Encoding \(encoding.prefix(100)): send its content as it is.")
        }
        guard let disposition = fields["Content-Disposition"].flatMap({ ParameterizedValue($0) }), HTTPHeaders.isSame(disposition.value, "form-data"),
            let name = disposition["name"]
        else { throw .malformed("A part has no header like Content-Disposition: form-data; name=\"file\".") }
        return .part(name: unescaped(name), filename: disposition["filename"].map(unescaped), contentType: fields["Content-Type"])
    }

    /// Lines that go on in the next one are joined (RFC 5322 section 2.2.3).
    private static func fields(_ headers: UnsafeRawBufferPointer) throws(FormUploadError) -> HTTPHeaders {
        var lines: [String] = []
        var rest = headers.dropFirst(2)
        while !rest.isEmpty {
            let line = UnsafeRawBufferPointer(rebasing: rest)
            let end = line.firstIndex(of: Array("\r\n".utf8)) ?? line.count
            guard let text = String(validating: line[..<end], as: UTF8.self) else {
                throw .malformed("The headers of a part are not UTF-8.")
            }
            guard !text.utf8.contains(where: { $0 == 0 || $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\n") }) else {
                throw .malformed("A part has a control character in its headers.")
            }
            if let first = text.utf8.first, first == UInt8(ascii: " ") || first == UInt8(ascii: "\t"), !lines.isEmpty {
                lines[lines.count - 1] += text
            } else {
                lines.append(text)
            }
            rest = rest.dropFirst(end + 2)
        }
        var fields = HTTPHeaders()
        for line in lines {
            guard let colon = line.utf8.firstIndex(of: UInt8(ascii: ":")), HTTPHeaders.isToken(line.utf8[..<colon]) else {
                throw .malformed("A part has a header without a name.")
            }
            fields.add(name: String(line[..<colon]), value: ParameterizedValue.trimmed(line.utf8[colon...].dropFirst()))
        }
        return fields
    }

    /// The three escapes of browsers ("multipart/form-data encoding algorithm" of the HTML standard), and no others.
    private static func unescaped(_ text: String) -> String {
        var result: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            let escaped: UInt8? =
                switch (byte, rest.first, rest.dropFirst().first) {
                case (UInt8(ascii: "%"), UInt8(ascii: "2")?, UInt8(ascii: "2")?): UInt8(ascii: "\"")
                case (UInt8(ascii: "%"), UInt8(ascii: "0")?, UInt8(ascii: "D")?): UInt8(ascii: "\r")
                case (UInt8(ascii: "%"), UInt8(ascii: "0")?, UInt8(ascii: "A")?): UInt8(ascii: "\n")
                default: nil
                }
            if escaped != nil { rest = rest.dropFirst(2) }
            result.append(escaped ?? byte)
        }
        return String(decoding: result, as: UTF8.self)
    }
}
