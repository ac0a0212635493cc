/// A request before its body.
struct RequestHead: Sendable {
    var method: String
    var path: String
    /// "HTTP/1.1"
    var version: String
    var query: [(name: String, value: String)]
    var headers: HTTPHeaders

    /// How the body is delimited (RFC 9112 section 6.3), or why it must not be guessed. libmicrohttpd looks at the first of several
    /// `Content-Length` fields, ignores it beside `Transfer-Encoding`, and takes every coding but `chunked` for a body without end:
    /// differences that let a proxy and this server disagree where a request ends. (Its own strict mode asks for `Host` as well, but
    /// 0.9.75 then sends the head of the refusal twice.)
    var framing: Framing {
        let codings = headers.values("Transfer-Encoding")
        let lengths = headers.values("Content-Length")
        for (name, _) in headers where !HTTPHeaders.isToken(name.utf8) {
            return .malformed("The header field name \"\(name)\" is not a token.")
        }
        let hosts = headers.values("Host").count
        guard hosts == 1 || (hosts == 0 && version == "HTTP/1.0") else { return .malformed("There must be one Host header field.") }
        if let coding = codings.first {
            guard codings.count == 1, coding.lowercased() == "chunked" else {
                return .malformed("The only transfer coding understood is \"chunked\".")
            }
            guard lengths.isEmpty else { return .malformed("Content-Length and Transfer-Encoding contradict each other.") }
            guard version != "HTTP/1.0" else { return .malformed("HTTP/1.0 knows no Transfer-Encoding.") }
            return .chunked
        }
        guard let length = lengths.first else { return .length(0) }
        let isNumber = !length.isEmpty && length.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        guard isNumber, lengths.allSatisfy({ $0 == length }) else { return .malformed("Content-Length is not one number.") }
        return .length(Int(length) ?? .max)
    }

    /// Whether libmicrohttpd writes `100 Continue` before it reads the body.
    var expectsContinue: Bool {
        version != "HTTP/1.0" && headers["Expect"]?.lowercased() == "100-continue"
    }

    enum Framing: Equatable {
        case length(Int)
        case chunked
        case malformed(String)
    }
}

/// Decodes `%HH` in place, once, as `MHD_OPTION_UNESCAPE_CALLBACK` wants it: broken escapes stay as they are, and so does `%00`, because the
/// text ends at the first zero.
///
/// - Returns: the new length.
func percentDecode(inPlace text: UnsafeMutablePointer<CChar>) -> Int {
    func digit(_ character: CChar) -> UInt8? {
        switch UInt8(bitPattern: character) {
        case let byte where byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case let byte where byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "f"): (byte | 0x20) - UInt8(ascii: "a") + 10
        default: nil
        }
    }
    var read = 0
    var write = 0
    while text[read] != 0 {
        if text[read] == CChar(UInt8(ascii: "%")), let high = digit(text[read + 1]), let low = digit(text[read + 2]), high | low != 0 {
            text[write] = CChar(bitPattern: high << 4 | low)
            read += 3
        } else {
            text[write] = text[read]
            read += 1
        }
        write += 1
    }
    text[write] = 0
    return write
}
