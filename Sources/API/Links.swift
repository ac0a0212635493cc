import FoundationEssentials
import Jobs
import MicroHTTP

/// The addresses in answers, all made here. Links within the API are host-relative, as the Comfy API v2 has them, with the path that a proxy
/// adds. Links to content, which callers hand on to an `<img>` or a download tool, are absolute.
struct Links: Sendable {
    /// Scheme and authority, without a slash at the end; empty where nothing is known of them.
    let origin: String
    /// The path below which the bridge is found there; empty for none.
    let mount: String
    /// When the signatures made now end, in seconds since 1970; nil when none are made.
    let expires: Int?

    private let signer: URLSigner?
    private let signsEvents: Bool

    /// - Parameters:
    ///   - publicURL: what callers see when a proxy stands before the bridge; nil takes the `Host` of the request.
    ///   - signer: nil when whoever has an address may read it.
    init(_ request: Request, publicURL: PublicURL?, signer: URLSigner?) {
        // AccessGuard has refused what is no flag.
        self.init(
            origin: publicURL?.base ?? request.headers["Host"].map { "http://\($0)" } ?? "", mount: publicURL?.path ?? "", signer: signer,
            signsEvents: (try? request.flag("signed_events")) ?? false)
    }

    init(origin: String, mount: String = "", signer: URLSigner? = nil, signsEvents: Bool = false, at now: Date = Date()) {
        self.origin = origin
        self.mount = mount
        self.signer = signer
        self.signsEvents = signsEvents
        expires = signer?.expiry(at: now)
    }

    /// The same with signatures that begin to age now; for streams, which may go on longer than a signature lives.
    func renewed(at now: Date = Date()) -> Links {
        signer == nil ? self : Links(origin: origin, mount: mount, signer: signer, signsEvents: signsEvents, at: now)
    }

    /// What all absolute links begin with.
    var base: String { origin + mount }

    func job(_ job: JobID) -> String { mount + path(of: job) }
    func events(_ job: JobID) -> String {
        let path = "\(path(of: job))/events"
        return mount + (signsEvents ? signed(path) : path)
    }
    func cancel(_ job: JobID) -> String { "\(mount)\(path(of: job))/cancel" }
    func asset(_ asset: Asset) -> String { mount + path(of: asset) }
    func preview(_ job: JobID, _ number: Int) -> String { base + signed("\(path(of: job))/previews/\(number)") }
    func content(_ asset: Asset) -> String { base + signed("\(path(of: asset))/content") }

    /// When the URL of content that is there until `end` stops to work.
    func expiry(until end: Date) -> Date {
        min(end, expires.map { Date(timeIntervalSince1970: Double($0)) } ?? end)
    }

    private func path(of job: JobID) -> String { "/api/v2/jobs/\(job)" }
    private func path(of asset: Asset) -> String { "/api/v2/assets/\(asset.id)" }

    /// A signature belongs to the bridge's own path: a proxy may take the mount away.
    private func signed(_ path: String) -> String {
        guard let signer, let expires else { return path }
        return "\(path)?\(signer.query(for: path, expires: expires))"
    }
}
