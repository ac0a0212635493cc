import AsyncHTTPClient
import Foundation
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport

/// A running bridge with tokens.
@Suite(.timeLimit(.minutes(5))) struct AccessTests {
    private static let token = "token-of-the-access-tests"
    private static let flags = ["--token", "another-token-of-the-tests", "--token", token]
    private static let authorization = [("Authorization", "Bearer \(token)")]

    private func submit(_ workflow: JSON, query: String = "?signed_events=1", to bridge: RunningBridge) async throws -> JSON {
        let answer = try await bridge.send(.POST, "/api/v2/jobs\(query)", Self.authorization, body: (["workflow": workflow] as JSON).encoded())
        #expect(answer.status == 201)
        return try answer.json
    }

    @Test func everyRouteThatIsNotOpenWantsAToken() async throws {
        try await withBridge(Self.flags) { bridge, simulator in
            try await withRoutes { routes in
                for route in routes {
                    let path = route.path.replacing(#/\{\w+\}/#, with: "1")
                    for method in route.method == "GET" ? [HTTPMethod.GET, .HEAD] : [HTTPMethod(rawValue: route.method)] {
                        let without = try await bridge.send(method, path)
                        let wrong = try await bridge.send(method, path, [("Authorization", "Bearer token-of-somebody-else")])
                        for answer in [without, wrong] {
                            #expect((answer.status == 401) == !route.access.isOpen, "\(method) \(path)")
                            #expect(answer.headers["WWW-Authenticate"] == (route.access.isOpen ? [] : ["Bearer"]))
                            if !route.access.isOpen, method != .HEAD { #expect(answer.errorCode == "unauthorized") }
                        }
                        let right = try await bridge.send(method, path, Self.authorization)
                        #expect(right.status != 401, "\(method) \(path)")
                    }
                }
            }
            #expect(simulator.statistics.promptsAccepted == 0)
        }
    }

    @Test func readinessSaysLittleWithoutAToken() async throws {
        try await withBridge(Self.flags) { bridge, _ in
            let without = try await bridge.get("/readyz")
            #expect(without.status == 200)
            #expect(try without.json == ["ready": true])
            let with = try await bridge.get("/readyz", Self.authorization)
            #expect(try with.json["comfyui"]?.array?.count == 1)
        }
    }

    @Test func signedURLsTakeAViewerThroughTheWholeJob() async throws {
        try await withBridge(Self.flags + ["--preview-history", "64"], simulator: { $0.stepDelay = .milliseconds(20) }) { bridge, _ in
            let job = try await submit(Graph.sampler(steps: 6), to: bridge)
            let url = try #require(job["urls"]?["events"]?.string)
            let (path, query) = try #require(url.split(separator: "?").map(String.init).pair)
            #expect(path == "/api/v2/jobs/\(job["id"]?.string ?? "")/events")

            async let second = bridge.events(try await bridge.open(.GET, url + "&previews=url&last_event_id=0", body: nil))
            let events = try await bridge.events(try await bridge.open(.GET, url + "&previews=url&last_event_id=0", body: nil))
            #expect(events.last?.json["status"] == "succeeded")
            // The bytes are made once for all viewers, with the same signatures.
            let others = try await second
            #expect(others.filter { $0.name == "output" } == events.filter { $0.name == "output" })
            #expect(events.contains { $0.name == "preview" })

            let output = try #require(events.first { $0.name == "output" }?.json)
            let content = try #require(output["url"]?.string)
            #expect(try await bridge.get(content).body.starts(with: [0x89, 0x50, 0x4E, 0x47]))
            #expect(try await bridge.send(.HEAD, content).status == 200)
            let range = try await bridge.get(content, [("Range", "bytes=0-3")])
            #expect(range.status == 206)
            for method in [HTTPMethod.POST, .DELETE, .OPTIONS] {
                let answer = try await bridge.send(method, content)
                #expect(answer.status == 401)
            }
            let expires = try #require(output["url_expires_at"]?.string)
            let end = try Date(expires, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true))
            #expect(content.contains("?expires=\(Int(end.timeIntervalSince1970))&"))

            // As EventSource comes back.
            let middle = try #require(events.compactMap(\.id).dropFirst(2).first)
            let rest = try await bridge.events(try await bridge.open(.GET, url, [("Last-Event-ID", "\(middle)")], body: nil))
            #expect(rest.compactMap(\.id) == events.compactMap(\.id).filter { $0 > middle })
            let over = try await bridge.get(url, [("Last-Event-ID", "\(events.compactMap(\.id).last ?? 0)")])
            #expect(over.status == 204)

            let foreign = try await submit(Graph.picture(), to: bridge)["id"]?.string ?? ""
            for wrong in [
                path, "\(path)?\(query.dropLast())", url.replacing("expires=1", with: "expires=2"), "/api/v2/jobs/\(foreign)/events?\(query)",
                "/api/v2/jobs/\(job["id"]?.string ?? "")?\(query)", "\(path)?\(query.replacing("&signature", with: "&Signature"))",
            ] {
                let answer = try await bridge.get(wrong)
                #expect(answer.status == 401, "\(wrong)")
            }
        }
    }

    @Test func previewsAreReadThroughTheirURLs() async throws {
        // All previews are kept: a slow machine shall not lose the one that is asked for.
        try await withBridge(Self.flags + ["--preview-history", "400"], simulator: { $0.stepDelay = .milliseconds(50) }) { bridge, _ in
            let job = try await submit(Graph.sampler(steps: 400), to: bridge)
            let url = try #require(job["urls"]?["events"]?.string)
            let events = try await bridge.events(try await bridge.open(.GET, url + "&previews=url", body: nil)) { $0.name == "preview" }
            let preview = try #require(events.last?.json["url"]?.string)
            let answer = try await bridge.get(preview)
            #expect(answer.status == 200)
            #expect(answer.headers["Content-Type"] == ["image/jpeg"])
            let unsigned = try await bridge.get(String(preview.prefix { $0 != "?" }))
            #expect(unsigned.status == 401)
        }
    }

    @Test func onlyWhoAsksGetsASignedStream() async throws {
        try await withBridge(Self.flags) { bridge, _ in
            let job = try await submit(Graph.picture(), query: "", to: bridge)
            let id = try #require(job["id"]?.string)
            #expect(job["urls"]?["events"]?.string == "/api/v2/jobs/\(id)/events")
            for (method, path) in [(HTTPMethod.GET, "/api/v2/jobs/\(id)"), (.POST, "/api/v2/jobs/\(id)/cancel")] {
                let answer = try await bridge.send(method, "\(path)?signed_events=1", Self.authorization)
                #expect(try answer.json["urls"]?["events"]?.string?.hasPrefix("/api/v2/jobs/\(id)/events?expires=") == true)
            }
            let run = try await bridge.run(Graph.picture(seed: 2), query: "?signed_events=1", Self.authorization)
            #expect(try run.json["urls"]?["events"]?.string?.contains("?expires=") == true)
            let bad = try await bridge.run(Graph.picture(seed: 3), query: "?signed_events=2", Self.authorization)
            #expect(bad.status == 400)
        }
    }

    @Test func aStreamGoesOnBeyondItsSignature() async throws {
        try await withBridge(Self.flags) { bridge, _ in
            let job = try await submit(Graph.delay(milliseconds: 2500), to: bridge)
            let path = "/api/v2/jobs/\(job["id"]?.string ?? "")/events"
            // The bridge signs with the same key, for it has the same tokens.
            let signer = try #require(URLSigner(tokens: [Self.flags[1], Self.token], lifetime: 1))
            let url = "\(path)?\(signer.query(for: path, expires: Int(Date().timeIntervalSince1970) + 2))"
            let events = try await bridge.events(try await bridge.open(.GET, url, body: nil))
            #expect(events.last?.json["status"] == "succeeded")
            let expired = try await bridge.get(url)
            #expect(expired.status == 401)
            #expect(try expired.json["error"]?["message"]?.string?.contains("expired") == true)
        }
    }

    @Test func pagesCanReadWhatTheServerItselfRefuses() async throws {
        try await withBridge(["--max-body-size", "1", "--cors-origin", "https://app.example.com"]) { bridge, _ in
            // Who may not ask at all is told that first.
            for (origin, allowed, code) in [("https://app.example.com", ["https://app.example.com"], "payload_too_large"), ("https://evil.example", [], "forbidden")] {
                let answer = try await bridge.send(.POST, "/run", [("Origin", origin)], body: [UInt8](repeating: 0x20, count: 2 << 20))
                #expect(answer.errorCode == code)
                #expect(answer.headers["Access-Control-Allow-Origin"] == allowed)
                #expect(answer.headers["Vary"] == ["Origin"])
            }
        }
    }

    @Test func withoutTokensNothingIsSigned() async throws {
        try await withBridge { bridge, _ in
            let run = try await bridge.run(Graph.picture(), query: "?signed_events=1")
            #expect(try run.json["urls"]?["events"]?.string?.hasSuffix("/events") == true)
            #expect(try run.json["outputs"]?.array?.first?["url"]?.string?.hasSuffix("/content") == true)
        }
    }
}

extension [String] {
    fileprivate var pair: (String, String)? { count == 2 ? (self[0], self[1]) : nil }
}

private func withRoutes(_ body: ([Route]) async throws -> Void) async throws {
    try await withAPI { try await body(Routes.all($0)) }
}
