import MicroHTTP
import Wording

extension Request {
    /// Whether the caller has the content already (RFC 9110 section 13.1.2).
    func matches(etag: String) -> Bool {
        headers.values("If-None-Match").flatMap { $0.split(separator: ",") }.map(\.trimmed)
            .contains { $0 == "*" || $0 == etag || $0 == "W/\(etag)" }
    }
}
