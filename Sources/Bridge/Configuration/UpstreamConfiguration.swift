import API
import ComfyUI
import Foundation
import Wording

/// Where the ComfyUIs are, what the bridge sends to authenticate itself, and which certificates of theirs it accepts.
struct UpstreamConfiguration: Sendable {
    let endpoints: [ComfyEndpoint]
    let trust: ComfyTrust
    /// What a person should know who lets the bridge run like this.
    let warnings: [String]

    init(_ reader: OptionReader) throws {
        let addresses = reader.strings("comfyui")
        var endpoints: [ComfyEndpoint] = []
        for address in addresses.isEmpty ? ["http://127.0.0.1:8188"] : addresses {
            let endpoint: ComfyEndpoint
            do { endpoint = try ComfyEndpoint(address) } catch { throw ConfigurationError("\(reader.source("comfyui")): \(error)") }
            // Two connections under one name push each other out.
            guard !endpoints.contains(where: { $0.description == endpoint.description }) else {
                throw ConfigurationError("\(reader.source("comfyui")) names \(endpoint) twice; name each ComfyUI once.")
            }
            endpoints.append(endpoint)
        }
        let headers = try Self.headers(reader)
        self.endpoints = try endpoints.map { endpoint in
            let own = headers.filter { $0.endpoint == endpoint.description }.map(\.header)
            guard endpoint.authorization == nil || !own.contains(where: { $0.name.lowercased() == "authorization" }) else {
                throw ConfigurationError(
                    "\(reader.source("comfyui")) \(endpoint) has a user name in its address, and an Authorization header of its own as well; leave one of them.")
            }
            // A user name in the address is meant for this ComfyUI, a header without address for all.
            let common = headers.filter { $0.endpoint == nil }.map(\.header).filter { endpoint.authorization == nil || $0.name.lowercased() != "authorization" }
            return endpoint.adding(common + own)
        }
        for header in headers {
            guard let address = header.endpoint, !endpoints.contains(where: { $0.description == address }) else { continue }
            throw ConfigurationError("\(header.place) is for \(address), which is none of the ComfyUIs (--comfyui): \(endpoints.map(\.description).joined(separator: ", ")).")
        }
        let secure = endpoints.filter { $0.scheme == .https }
        let isInsecure = try reader.flag("comfyui-insecure")
        guard let path = reader.string("comfyui-ca") else {
            trust = isInsecure ? .anybody : .system
            let names = secure.map(\.description).joined(separator: ", ")
            warnings = isInsecure ? ["--comfyui-insecure: whoever is between the bridge and \(names.isEmpty ? "a ComfyUI with https" : names) can read and change everything"] : []
            return
        }
        let source = "\(reader.source("comfyui-ca")) '\(path)'"
        guard !isInsecure else { throw ConfigurationError("\(source) names authorities, and \(reader.source("comfyui-insecure")) accepts every certificate; leave one of them.") }
        let pem: Data
        do { pem = try Data(contentsOf: URL(fileURLWithPath: path)) } catch { throw ConfigurationError("\(source) cannot be read: \(NetworkWords.of(error)).") }
        do { trust = try ComfyTrust(pem: Array(pem)) } catch { throw ConfigurationError("\(source) \(error).") }
        warnings = []
    }

    // MARK: Headers. Nothing here may show a value.

    private struct Line {
        /// For which ComfyUI; nil for all.
        let endpoint: String?
        let header: ComfyHeader
        /// Where it stands, for messages.
        let place: String
    }

    private static func headers(_ reader: OptionReader) throws -> [Line] {
        let source = reader.source("comfyui-header")
        var lines = try reader.strings("comfyui-header").enumerated().map { try line($1, "header number \($0 + 1) of \(source)") }
        for path in reader.strings("comfyui-header-file") {
            let source = "\(reader.source("comfyui-header-file")) '\(path)'"
            let found = try reader.lines(ofFile: path, source).map { try line($0.text, "line \($0.number) of \(source)") }
            guard !found.isEmpty else { throw ConfigurationError("\(source) has no header. Write one per line, as in 'X-API-Key: 12345'.") }
            lines += found
        }
        return lines
    }

    /// `Name: value`, with the address of a ComfyUI before it for one that is for this one only. No name of a header has a colon or a slash in it.
    private static func line(_ text: String, _ place: String) throws -> Line {
        let text = text.trimmed
        let first = text.prefix { !$0.isWhitespace }
        var endpoint: String?
        var rest = Substring(text)
        if first.firstMatch(of: /^(?i:https?|wss?):\/\//) != nil {
            do { endpoint = try ComfyEndpoint(String(first)).description } catch { throw ConfigurationError("\(place): \(error)") }
            rest = text[first.endIndex...]
        } else if first.firstMatch(of: /^[^:]*:\/\//) != nil {
            throw ConfigurationError("\(place) begins with an address that is not of a ComfyUI; those begin with http:// or https://.")
        }
        do { return Line(endpoint: endpoint, header: try ComfyHeader(rest.trimmed), place: place) } catch { throw ConfigurationError("\(place) \(error).") }
    }
}
