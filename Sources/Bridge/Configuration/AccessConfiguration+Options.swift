import API
import ComfyUI
import Foundation

extension AccessConfiguration {
    /// - Parameter host: where the bridge listens.
    init(_ reader: OptionReader, host: String, publicURL: PublicURL?) throws {
        self.init()
        tokens = try Self.tokens(reader)
        urlLifetime = try reader.integer("url-lifetime", default: 3600, in: 1...31_536_000)
        for text in reader.strings("cors-origin") {
            if text == "*" {
                crossOrigin.admitsAll = true
            } else if let origin = Origin(text) {
                crossOrigin.origins.insert(origin)
            } else {
                throw ConfigurationError(
                    "\(reader.source("cors-origin")) '\(text)' is no origin. Write scheme://host or scheme://host:port without a path, as in https://app.example.com, or * for all.")
            }
        }
        for text in reader.strings("allowed-host") {
            guard let authority = Authority(text), authority.port == nil, !text.hasSuffix(":") else {
                throw ConfigurationError("\(reader.source("allowed-host")) '\(text)' is no host name. Write the name alone, as in comfy.example.com.")
            }
            allowedHosts.insert(authority.host)
        }
        publicOrigin = publicURL?.origin
        let allowsInsecureBind = try reader.flag("allow-insecure-bind")
        guard tokens.isEmpty else { return }
        if !Self.isLoopback(host) {
            guard allowsInsecureBind else {
                throw ConfigurationError(
                    "\(reader.source("host")) \(host) lets other machines in, and no token is set, so all of them could run workflows. Set one with --token or --token-file, "
                        + "or listen on this machine only with --host 127.0.0.1, or, when something else keeps strangers out, add --allow-insecure-bind.")
            }
            warnings.append("no token is set: every machine that reaches the bridge can run workflows")
        }
        if crossOrigin.admitsAll { warnings.append("no token is set and --cors-origin is *: every web page that a user of this machine opens can run workflows") }
    }

    /// Whether only this machine reaches what listens there.
    static func isLoopback(_ host: String) -> Bool {
        // An IPv6 address stands without brackets here.
        guard let authority = Authority(host.contains(":") ? "[\(host)]" : host) else { return false }
        return authority.isAddress ? authority.host == "::1" || authority.host.hasPrefix("127.") : authority.host == "localhost"
    }

    // MARK: Tokens. Nothing here may show one.

    private static let minimumLength = 16

    private static func tokens(_ reader: OptionReader) throws -> [String] {
        var tokens: [String] = []
        for (index, token) in reader.strings("token").enumerated() {
            try check(token, "token number \(index + 1) of \(reader.source("token"))")
            tokens.append(token)
        }
        guard let path = reader.string("token-file") else { return tokens }
        let source = "\(reader.source("token-file")) '\(path)'"
        let before = tokens.count
        for (number, token) in try reader.lines(ofFile: path, source) {
            try check(token, "line \(number) of \(source)")
            tokens.append(token)
        }
        guard tokens.count > before else {
            throw ConfigurationError("\(source) has no token. Write one per line, for example what openssl rand -hex 24 prints.")
        }
        return tokens
    }

    /// `b64token` of RFC 6750, what an Authorization header can carry.
    private static func check(_ token: String, _ place: String) throws {
        let body = token.utf8.reversed().drop { $0 == UInt8(ascii: "=") }
        let isToken =
            !body.isEmpty
            && body.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
                case UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~"), UInt8(ascii: "+"), UInt8(ascii: "/"): true
                default: false
                }
            }
        guard isToken else {
            throw ConfigurationError(
                "\(place) has characters that a token cannot have: letters, digits and - . _ ~ + / are possible, and = at the end. openssl rand -hex 24 makes a good one.")
        }
        guard token.utf8.count >= minimumLength else {
            throw ConfigurationError("\(place) is too short to be safe; it needs \(minimumLength) characters or more. openssl rand -hex 24 makes a good one.")
        }
    }
}
