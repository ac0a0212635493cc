/// A request before its body.
struct RequestHead: Sendable {
    var method: String
    var path: String
    /// "HTTP/1.1"
    var version: String
    var query: [(name: String, value: String)]
    var headers: HTTPHeaders
    /// Why it must not be looked at any further.
    var failure: HTTPServerFailure?

    init(method: String, path: String, version: String, query: [(name: String, value: String)] = [], headers: HTTPHeaders, failure: HTTPServerFailure? = nil) {
        self.method = method
        self.path = path
        self.version = version
        self.query = query
        self.headers = headers
        self.failure = failure
    }

    init(method: String, target: some Collection<UInt8>, version: String, headers: HTTPHeaders, failure: HTTPServerFailure?) {
        self.init(method: method, path: "/", version: version, headers: headers, failure: failure)
        do throws(RequestTarget.Malformed) {
            let target = try RequestTarget(target)
            (path, query) = (target.path, target.query)
            // Whether a Host was sent as it should be is for `framing` to say.
            let hosts = headers.values("Host").count
            if let authority = target.authority, hosts == 1 || (hosts == 0 && version == "HTTP/1.0") { self.headers["Host"] = authority }
        } catch {
            self.failure = failure ?? .malformed(error.reason)
        }
    }

    /// How the body is delimited (RFC 9112 section 6.3), or why it must not be guessed. libmicrohttpd looks at the first of several
    /// `Content-Length` fields, ignores it beside `Transfer-Encoding`, and takes every coding but `chunked` for a body without end:
    /// differences that let a proxy and this server disagree where a request ends. (Its own strict mode asks for `Host` as well, but
    /// 0.9.75 then sends the head of the refusal twice.)
    var framing: Framing {
        let codings = headers.values("Transfer-Encoding")
        let lengths = headers.values("Content-Length")
        for (name, value) in headers {
            guard HTTPHeaders.isToken(name.utf8) else { return .malformed("The header field name \"\(String(decoding: name.utf8.prefix(100), as: UTF8.self))\" is not a token.") }
            guard !value.utf8.contains(where: HTTPHeaders.isControl) else { return .malformed("There is a control character in the header field \(name).") }
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

    /// The client has said that no request follows on the connection.
    var isLast: Bool {
        let options = headers.values("Connection").flatMap { $0.split(separator: ",") }.map { $0.filter { $0 != " " && $0 != "\t" }.lowercased() }
        return options.contains("close") || (version == "HTTP/1.0" && !options.contains("keep-alive"))
    }

    enum Framing: Equatable {
        case length(Int)
        case chunked
        case malformed(String)
    }
}
