import ComfyUI

/// A web origin (RFC 6454): what a browser says of the page that asks.
package struct Origin: Sendable, Hashable {
    package let scheme: String
    package let host: String
    /// The default of the scheme when none was written; nil for schemes without one.
    package let port: Int?

    /// From `scheme://host[:port]`; nil for everything else, such as `null`, the origin of pages without one.
    package init?(_ text: some StringProtocol) {
        guard let (scheme, rest) = Origin.split(text), let authority = Authority(rest) else { return nil }
        self.init(scheme: scheme, authority)
    }

    /// The origin of an `http` or `https` URL.
    package init?(ofURL url: some StringProtocol) {
        guard let (scheme, rest) = Origin.split(url), ["http", "https"].contains(scheme),
            let authority = Authority(rest.prefix { !"/?#".contains($0) })
        else { return nil }
        self.init(scheme: scheme, authority)
    }

    /// Whether a page of this origin was loaded from the host that a request to it names. The scheme is not compared: a proxy that
    /// ends TLS passes on `Host` but not the scheme.
    func isOrigin(ofHost authority: Authority) -> Bool {
        host == authority.host && port == (authority.port ?? Origin.defaultPort(of: scheme))
    }

    private init(scheme: String, _ authority: Authority) {
        self.scheme = scheme
        host = authority.host
        port = authority.port ?? Origin.defaultPort(of: scheme)
    }

    private static func split(_ text: some StringProtocol) -> (scheme: String, rest: Substring)? {
        let text = Substring(text)
        guard let colon = text.firstIndex(of: ":"), text[colon...].hasPrefix("://") else { return nil }
        let scheme = text[..<colon].lowercased()
        guard scheme.first?.isLetter == true, scheme.utf8.allSatisfy({ isPartOfScheme($0) }) else { return nil }
        return (scheme, text[colon...].dropFirst(3))
    }

    private static func isPartOfScheme(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "+"): true
        default: false
        }
    }

    private static func defaultPort(of scheme: String) -> Int? {
        switch scheme {
        case "http": 80
        case "https": 443
        default: nil
        }
    }
}
