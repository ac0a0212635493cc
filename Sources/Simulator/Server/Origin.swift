import NIOHTTP1

/// ComfyUI's check of who asks (protocol section 14).
enum Origin {
    static func isAllowed(_ headers: HTTPHeaders, checksFetchSite: Bool) -> Bool {
        if checksFetchSite, headers.first(name: "sec-fetch-site") == "cross-site" { return false }
        guard let host = headers.first(name: "host"), let origin = headers.first(name: "origin"), let authority = authority(of: origin)
        else {
            return true
        }
        let (hostName, hostPort) = split(host.lowercased()), (originName, originPort) = split(authority.lowercased())
        guard isLoopback(hostName) else { return true }
        if hostPort == nil || originPort == nil { return hostName == originName }
        return hostName == originName && hostPort == originPort
    }

    /// Nil for `null` and everything else without a host.
    private static func authority(of origin: String) -> String? {
        guard let range = origin.firstRange(of: "://") else { return nil }
        let rest = origin[range.upperBound...].prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        return rest.isEmpty ? nil : String(rest)
    }

    private static func split(_ authority: String) -> (name: String, port: String?) {
        if authority.hasPrefix("["), let end = authority.firstIndex(of: "]") {
            let rest = authority[authority.index(after: end)...]
            return (
                String(authority[authority.index(after: authority.startIndex)..<end]), rest.hasPrefix(":") ? String(rest.dropFirst()) : nil
            )
        }
        let parts = authority.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        return (String(parts[0]), parts.count > 1 ? String(parts[1]) : nil)
    }

    private static func isLoopback(_ name: String) -> Bool {
        name == "localhost" || name == "::1" || (name.hasPrefix("127.") && name.allSatisfy { $0.isNumber || $0 == "." })
    }
}
