#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import FoundationEssentials
#endif

/// Why a text does not name a ComfyUI server; `description` says what to write instead.
package struct ComfyEndpointError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The text without user name and password.
    package let url: String
    package let reason: String

    package var description: String { "'\(url)' is not the address of a ComfyUI: \(reason), for example http://127.0.0.1:8188" }
}

/// Where one ComfyUI listens: scheme, host, port, the path below which it lives, and the credentials of a proxy in front of it.
package struct ComfyEndpoint: Sendable, Hashable, CustomStringConvertible {
    package enum Scheme: String, Sendable, Hashable {
        case http, https
    }

    package let scheme: Scheme
    /// A name or address; an IPv6 address without its brackets.
    package let host: String
    package let port: Int
    /// What stands before ComfyUI's own paths: empty, or starting with a slash and not ending with one. Percent-encoded.
    package let basePath: String
    /// The value of the `Authorization` header (`Basic …`) when the URL names a user.
    package let authorization: String?
    /// What else goes with every request; a name occurs once.
    package private(set) var headers: [ComfyHeader] = []

    /// - Parameter url: `http://host[:port][/path]` or `https://…`; `ws` and `wss` mean the same. `user:password@` before the host becomes
    ///   basic authentication. A missing port is the scheme's (80, 443), as in every URL.
    package init(_ url: String) throws(ComfyEndpointError) {
        func fail(_ reason: String) -> ComfyEndpointError { ComfyEndpointError(url: Self.withoutCredentials(url), reason: reason) }

        let text = url.trimmingWhitespace()
        guard let schemeEnd = text.firstRange(of: "://") else { throw fail("write it with http:// or https:// in front") }
        let schemeName = text[..<schemeEnd.lowerBound].lowercased()
        switch schemeName {
        case "http", "ws": scheme = .http
        case "https", "wss": scheme = .https
        default: throw fail("the scheme must be http or https")
        }

        let rest = text[schemeEnd.upperBound...]
        let authorityEnd = rest.firstIndex(where: { $0 == "/" || $0 == "?" || $0 == "#" }) ?? rest.endIndex
        var authority = rest[..<authorityEnd]
        if let at = authority.lastIndex(of: "@") {
            let credentials = authority[..<at]
            authority = authority[authority.index(after: at)...]
            guard let decoded = Self.credentials(credentials) else {
                throw fail("the user name and password must be percent-encoded, and a user name may hold no colon")
            }
            authorization = "Basic " + Data(decoded.utf8).base64EncodedString()
        } else {
            authorization = nil
        }

        let path = rest[authorityEnd...]
        guard !path.contains(where: { $0 == "?" || $0 == "#" }) else { throw fail("leave out everything from '?' or '#' on") }
        guard path.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else { throw fail("percent-encode the path") }
        basePath = String(path.reversed().drop(while: { $0 == "/" }).reversed())

        let place: Authority
        do { place = try Authority(checking: authority) } catch { throw fail(error.description) }
        host = place.writtenHost
        guard place.port != 0, authority.last != ":" else { throw fail(Authority.Fault.port.description) }
        port = place.port ?? (scheme == .http ? 80 : 443)
    }

    /// The normal form of the URL, without credentials: fit for logs and for answers to callers.
    package var description: String { "\(scheme.rawValue)://\(hostHeader)\(basePath)" }

    /// The same server with these headers; of one name the later wins.
    package func adding(_ headers: [ComfyHeader]) -> ComfyEndpoint {
        var endpoint = self
        for header in headers {
            endpoint.headers.removeAll { $0.isNamed(like: header) }
            endpoint.headers.append(header)
        }
        return endpoint
    }

    /// All that goes with every request.
    var requestHeaders: [ComfyHeader] {
        guard let authorization, !headers.contains(where: { $0.name.lowercased() == "authorization" }) else { return headers }
        return headers + [ComfyHeader(name: "Authorization", value: authorization)]
    }

    /// The value of the `Host` header: the port only when it is not the scheme's own.
    var hostHeader: String {
        let name = host.contains(":") ? "[\(host)]" : host
        return port == (scheme == .http ? 80 : 443) ? name : "\(name):\(port)"
    }

    /// The request target (path and query) of a route.
    /// - Parameter path: starts with a slash; its segments are already percent-encoded.
    func target(_ path: String, query: [(name: String, value: String)] = []) -> String {
        var target = basePath + path
        for (index, item) in query.enumerated() {
            target += index == 0 ? "?" : "&"
            target += Self.percentEncoded(item.name) + "=" + Self.percentEncoded(item.value)
        }
        return target
    }

    func url(_ path: String, query: [(name: String, value: String)] = []) -> String {
        "\(scheme.rawValue)://\(hostHeader)\(target(path, query: query))"
    }

    /// Everything but RFC 3986's unreserved characters as `%XX`, so that the result fits a path segment and a query value.
    static func percentEncoded(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            if isHostByte(byte) || byte == UInt8(ascii: "~") {
                result.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                let digits = String(byte, radix: 16, uppercase: true)
                result += digits.utf8.count == 1 ? "%0" + digits : "%" + digits
            }
        }
        return result
    }

    /// Without everything up to the last `@`, but for the scheme: fit to be shown whatever else is wrong with it.
    private static func withoutCredentials(_ url: String) -> String {
        guard let at = url.lastIndex(of: "@") else { return url }
        let scheme = url.firstRange(of: "://").map { url[..<$0.upperBound] } ?? ""
        return String(scheme + url[url.index(after: at)...])
    }

    /// `user:password` decoded; nil for broken percent-encoding and for a user name with a colon.
    private static func credentials(_ text: Substring) -> String? {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard let user = percentDecoded(parts[0]), !user.contains(":") else { return nil }
        guard let password = percentDecoded(parts.count == 2 ? parts[1] : "") else { return nil }
        return "\(user):\(password)"
    }

    private static func percentDecoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst(), let low = rest.popFirst(), isHexDigit(high), isHexDigit(low),
                let value = UInt8(String(decoding: [high, low], as: UTF8.self), radix: 16)
            else { return nil }
            bytes.append(value)
        }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"): true
        default: false
        }
    }

    static func isHostByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"):
            true
        default: false
        }
    }
}

extension String {
    fileprivate func trimmingWhitespace() -> Substring {
        let start = firstIndex(where: { !$0.isWhitespace }) ?? endIndex
        let tail = self[start...]
        guard let last = tail.lastIndex(where: { !$0.isWhitespace }) else { return tail }
        return tail[...last]
    }
}
