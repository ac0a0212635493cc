import ComfyUI
import Crypto
package import MicroHTTP
import OrderedJSON
import Wording

/// Says who may ask, from the head of a request alone: its body is not looked at, so this can run before one arrives.
///
/// Two things are kept apart. The guards of `Host` and `Origin` protect a bridge without a token from web pages: a browser on a machine that
/// reaches the bridge runs foreign code. Tokens say which callers may use it at all.
package struct AccessGuard: Sendable {
    package let crossOrigin: CrossOrigin
    /// Nil when there are no tokens, and so nothing to sign for.
    let signer: URLSigner?

    private let tokens: [SHA256Digest]
    private let allowedHosts: Set<String>
    private let publicOrigin: Origin?

    package init(_ configuration: AccessConfiguration) {
        crossOrigin = configuration.crossOrigin
        signer = URLSigner(tokens: configuration.tokens, lifetime: configuration.urlLifetime)
        tokens = configuration.tokens.map { SHA256.hash(data: Array($0.utf8)) }
        allowedHosts = configuration.allowedHosts
        publicOrigin = configuration.publicOrigin
    }

    // MARK: Host and Origin

    /// Lets pass what no foreign page can have sent, or one on the list.
    ///
    /// - Parameter isProbe: from a load balancer or Kubernetes, which calls the bridge by a name of its own.
    /// - Returns: the `Origin` header of a page on the list that is not the bridge's own.
    /// - Throws: 403.
    package func admit(_ headers: HTTPHeaders, isProbe: Bool = false) throws(APIError) -> String? {
        let host = headers["Host"].flatMap { Authority($0) }
        if !isProbe, !isHostTrusted(headers), let text = headers["Host"] {
            throw APIError.forbidden(
                "The bridge does not answer to the host name '\(text.excerpt)', since a foreign page could have given it this bridge's address "
                    + "(DNS rebinding). Use its IP address or localhost, or start it with --allowed-host NAME or with --token.")
        }
        let origins = headers.values("Origin")
        guard let origin = origins.first else { return nil }
        if origins.count == 1 {
            // A page of a foreign name is no probe, also where that name has been given this address.
            if let known = Origin(origin), (host.map(known.isOrigin(ofHost:)) ?? false && isHostTrusted(headers)) || known == publicOrigin { return nil }
            if crossOrigin.admits(origin) { return origin }
        }
        throw APIError.forbidden(
            "Pages of the origin '\(origin.excerpt)' may not use this bridge. Start it with --cors-origin \(Origin(origin) == nil ? "ORIGIN" : "\(origin.excerpt)") "
                + "to allow them; when a proxy changes Host, name the bridge's own address with --public-url.")
    }

    /// Whether no foreign page can have reached the bridge by giving its name this bridge's address. With a token, one that has still knows none.
    /// HTTP/1.0 without `Host` comes from no browser.
    private func isHostTrusted(_ headers: HTTPHeaders) -> Bool {
        guard tokens.isEmpty, let text = headers["Host"] else { return true }
        return Authority(text).map(isTrusted) ?? false
    }

    /// Whether the name cannot be one that a foreign page's DNS server resolves.
    private func isTrusted(_ authority: Authority) -> Bool {
        let name = authority.host
        return authority.isAddress || !name.contains(".") || [".localhost", ".local", ".internal"].contains { name.hasSuffix($0) }
            || allowedHosts.contains(name) || publicOrigin?.host == name
    }

    // MARK: Tokens

    /// - Throws: 401, and 400 for a `signed_events` that says nothing: before anything is done for the request.
    func authorize(_ request: Request, for access: Route.Access) throws(APIError) {
        if !access.isOpen, !hasToken(request), try !hasSignature(request, for: access) {
            throw APIError.unauthorized(
                request.headers["Authorization"] == nil
                    ? "This needs a token. Send the header Authorization: Bearer TOKEN, with one that the bridge was started with (--token, --token-file)."
                    : "The Authorization header has no token of this bridge. Send Authorization: Bearer TOKEN, with one that the bridge was started with.")
        }
        _ = try request.flag("signed_events")
    }

    /// Whether a caller of an open route may know more than strangers.
    func isInsider(_ request: Request) -> Bool { hasToken(request) && isHostTrusted(request.headers) }

    /// Whether the caller has shown a token, or none is needed.
    func hasToken(_ request: Request) -> Bool {
        guard !tokens.isEmpty else { return true }
        let fields = request.headers.values("Authorization")
        guard fields.count == 1, let space = fields[0].firstIndex(of: " "), fields[0][..<space].lowercased() == "bearer" else { return false }
        let digest = SHA256.hash(data: Array(fields[0][space...].trimmed.utf8))
        // Digests compare in constant time; all of them are, so that the time does not tell which one it was.
        return tokens.reduce(false) { found, token in token == digest || found }
    }

    private func hasSignature(_ request: Request, for access: Route.Access) throws(APIError) -> Bool {
        guard access == .tokenOrSignature, let signer, ["GET", "HEAD"].contains(request.method),
            let expires = request.queryValue("expires"), let signature = request.queryValue("signature")
        else { return false }
        switch signer.check(request.path, expires: expires, signature: signature) {
        case .valid: return true
        case .expired:
            throw APIError.unauthorized("This URL has expired. Ask for the job or asset again to get a new one, or send Authorization: Bearer TOKEN.")
        case .forged:
            throw APIError.unauthorized(
                "The signature does not belong to this URL. Use the URL as the bridge gave it (parameters may be added), or send Authorization: Bearer TOKEN.")
        }
    }
}
