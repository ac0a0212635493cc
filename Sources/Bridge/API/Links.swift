import FoundationEssentials
import MicroHTTP

/// The addresses that answers contain.
struct Links: Sendable {
    /// Scheme and authority, without a slash at the end; empty for host-relative links.
    let base: String
    /// When the signatures made now end, in seconds since 1970; nil when none are made.
    let expires: Int?

    private let signer: URLSigner?
    private let signsEvents: Bool

    /// - Parameters:
    ///   - publicURL: what callers see when a proxy stands before the bridge; nil takes the `Host` of the request.
    ///   - signer: nil when whoever has an address may read it.
    init(_ request: Request, publicURL: String?, signer: URLSigner?) {
        // AccessGuard has refused what is no flag.
        self.init(
            base: publicURL ?? request.headers["Host"].map { "http://\($0)" } ?? "", signer: signer,
            signsEvents: (try? request.flag("signed_events")) ?? false)
    }

    init(base: String, signer: URLSigner? = nil, signsEvents: Bool = false, at now: Date = Date()) {
        self.base = base
        self.signer = signer
        self.signsEvents = signsEvents
        expires = signer?.expiry(at: now)
    }

    /// The same with signatures that begin to age now; for streams, which may go on longer than a signature lives.
    func renewed(at now: Date = Date()) -> Links {
        signer == nil ? self : Links(base: base, signer: signer, signsEvents: signsEvents, at: now)
    }

    static func path(of job: JobID) -> String { "/api/v2/jobs/\(job)" }
    static func path(of asset: Asset) -> String { "/api/v2/assets/\(asset.id)" }

    func job(_ job: JobID) -> String { Links.path(of: job) }
    func events(_ job: JobID) -> String {
        let path = "\(Links.path(of: job))/events"
        return signsEvents ? signed(path) : path
    }
    func cancel(_ job: JobID) -> String { "\(Links.path(of: job))/cancel" }
    func preview(_ job: JobID, _ number: Int) -> String { base + signed("\(Links.path(of: job))/previews/\(number)") }
    func content(_ asset: Asset) -> String { base + signed("\(Links.path(of: asset))/content") }

    /// When the URL of content that is there until `end` stops to work.
    func expiry(until end: Date) -> Date {
        min(end, expires.map { Date(timeIntervalSince1970: Double($0)) } ?? end)
    }

    private func signed(_ path: String) -> String {
        guard let signer, let expires else { return path }
        return "\(path)?\(signer.query(for: path, expires: expires))"
    }
}
