import Jobs
import MicroHTTP
import Wording

/// What pages of other origins may do (the CORS protocol of the Fetch standard). The bridge itself knows no cookies, a page sends its token; but
/// what a proxy before it asks for, the browser may send along for the origins that are named. Never for all.
package struct CrossOrigin: Sendable, Equatable {
    /// The origins on the list of `--cors-origin`.
    package var origins: Set<Origin> = []
    /// `--cors-origin *`
    package var admitsAll = false

    /// Headers that a page may send beside those that need no asking.
    private static let requestHeaders: Set<String> = [
        "authorization", "content-type", "accept", "prefer", "idempotency-key", "last-event-id", "range", "if-range", "if-none-match", "cache-control",
    ]
    /// Headers that a page may read beside those that need no asking.
    private static let responseHeaders =
        "Comfy-Job-Id, Location, Retry-After, Content-Disposition, Content-Range, ETag, Preference-Applied, Server-Timing, WWW-Authenticate"
    /// Seconds for which a browser need not ask again; Chromium takes no more.
    private static let maximumAge = 7200

    func admits(_ origin: String) -> Bool {
        admitsAll || Origin(origin).map(origins.contains) ?? false
    }

    /// The answer to the question that a browser asks before a request; nil when the request is none.
    ///
    /// - Parameter methods: those of all routes, so that a page can read a 405 or 404.
    static func preflight(_ request: Request, methods: [String]) -> Response? {
        guard request.method == "OPTIONS", request.headers["Access-Control-Request-Method"] != nil else { return nil }
        var headers: HTTPHeaders = ["Access-Control-Allow-Methods": methods.joined(separator: ", "), "Access-Control-Max-Age": "\(maximumAge)"]
        let asked = request.headers.values("Access-Control-Request-Headers").flatMap { $0.split(separator: ",") }.map(\.trimmed)
        let allowed = asked.filter { requestHeaders.contains($0.lowercased()) }
        if !allowed.isEmpty { headers["Access-Control-Allow-Headers"] = allowed.joined(separator: ", ") }
        // Chromium asks this before a page of the internet reaches into a local network.
        if request.headers["Access-Control-Request-Private-Network"] == "true" { headers["Access-Control-Allow-Private-Network"] = "true" }
        return Response(status: 204, headers: headers, body: .empty)
    }

    /// Lets the page read the answer.
    ///
    /// - Parameter origin: the header of an admitted foreign origin; nil when the request is not from one. Even then the answer says
    ///   that it depends on the origin, or a browser would give a page the copy that an `<img>` of another one got.
    func decorate(_ headers: inout HTTPHeaders, for origin: String?) {
        guard admitsAll || !origins.isEmpty else { return }
        headers.add(name: "Vary", value: "Origin")
        guard let origin else { return }
        headers["Access-Control-Allow-Origin"] = origin
        if Origin(origin).map(origins.contains) ?? false { headers["Access-Control-Allow-Credentials"] = "true" }
        headers["Access-Control-Expose-Headers"] = Self.responseHeaders
    }
}
