import Crypto
import FoundationEssentials
import OrderedJSON
import Wording

/// Makes and checks the signatures of URLs that can be read without a token: for `EventSource`, `<img>` and download links, which send no
/// headers.
///
/// A signature is bound to one path and to the second it ends; parameters such as `previews` may stand before and after it. The key comes from
/// the tokens alone: a URL outlives a restart, and ends when any of the tokens is changed.
struct URLSigner: Sendable {
    /// Seconds.
    let lifetime: Int
    private let key: SymmetricKey

    /// Nil without tokens: then nothing needs a signature.
    init?(tokens: [String], lifetime: Int) {
        guard !tokens.isEmpty else { return nil }
        self.lifetime = lifetime
        let material = SymmetricKey(data: Data(Set(tokens).sorted().joined(separator: "\n").utf8))
        key = HKDF<SHA256>.deriveKey(inputKeyMaterial: material, info: Data("comfy-bridge signed URLs 1".utf8), outputByteCount: 32)
    }

    /// When what is signed now ends, in seconds since 1970: after the lifetime, and at most a quarter of it later. So it is the same for
    /// everybody during that quarter, and events with URLs in them are encoded once for all viewers.
    func expiry(at now: Date = Date()) -> Int {
        let step = max(1, lifetime / 4)
        return (Int(now.timeIntervalSince1970.rounded(.up)) + lifetime + step - 1) / step * step
    }

    /// - Parameter path: as in the URL, without percent escapes.
    func query(for path: String, expires: Int) -> String {
        "expires=\(expires)&signature=\(HMAC<SHA256>.authenticationCode(for: Self.message(path, "\(expires)"), using: key).hexadecimal)"
    }

    /// The parameters of a URL to which `?previews=url` was added although it had a query already: what follows the signature counts as a
    /// parameter of its own, since EventSource does not show the reason of a refusal.
    static func withOptionsApart(_ query: [(name: String, value: String)]) -> [(name: String, value: String)] {
        guard let index = query.firstIndex(where: { Name($0.name) == "signature" }), query[index].value.utf8.count <= 1024,
            let mark = query[index].value.firstIndex(of: "?")
        else { return query }
        var query = query
        let option = query[index].value[mark...].dropFirst().split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        query[index].value = String(query[index].value[..<mark])
        query.insert((name: String(option[0]), value: option.count > 1 ? String(option[1]) : ""), at: index + 1)
        return query
    }

    enum Verdict { case valid, expired, forged }

    func check(_ path: String, expires: String, signature: String, at now: Date = Date()) -> Verdict {
        guard let code = Self.bytes(signature), HMAC<SHA256>.isValidAuthenticationCode(code, authenticating: Self.message(path, expires), using: key),
            let end = Int(expires)
        else { return .forged }
        return now.timeIntervalSince1970 < Double(end) ? .valid : .expired
    }

    private static func message(_ path: String, _ expires: String) -> Data { Data("\(path)\n\(expires)".utf8) }

    private static func bytes(_ hex: String) -> [UInt8]? {
        guard hex.utf8.count == 2 * SHA256.byteCount else { return nil }
        let digits = hex.compactMap(\.hexDigitValue)
        guard digits.count == hex.count, digits.count == 2 * SHA256.byteCount else { return nil }
        return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
    }
}
