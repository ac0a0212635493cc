import Foundation
import MicroHTTP

/// The addresses that answers contain.
struct Links: Sendable, Hashable {
    /// Scheme and authority, without a slash at the end; empty for host-relative links.
    let base: String

    /// - Parameter publicURL: what callers see when a proxy stands before the bridge; nil takes the `Host` of the request.
    init(_ request: Request, publicURL: String?) {
        base = publicURL ?? request.headers["Host"].map { "http://\($0)" } ?? ""
    }

    init(base: String) { self.base = base }

    static func path(of job: JobID) -> String { "/api/v2/jobs/\(job)" }
    static func path(of asset: Asset) -> String { "/api/v2/assets/\(asset.id)" }

    func job(_ job: JobID) -> String { Links.path(of: job) }
    func events(_ job: JobID) -> String { "\(Links.path(of: job))/events" }
    func cancel(_ job: JobID) -> String { "\(Links.path(of: job))/cancel" }
    func preview(_ job: JobID, _ number: Int) -> String { "\(base)\(Links.path(of: job))/previews/\(number)" }
    func content(_ asset: Asset) -> String { "\(base)\(Links.path(of: asset))/content" }
}
