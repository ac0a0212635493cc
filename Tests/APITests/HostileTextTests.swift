import Logging
import MicroHTTP
import OrderedCollections
import OrderedJSON
import Testing

@testable import API
@testable import Bridge
@testable import Jobs
@testable import TestSupport
@testable import Workflow


/// What comes with a head, each part as long as no head may be: all of it costs its bytes.
@Suite(.timeLimit(.minutes(5))) struct HostileTextTests {
    @Test("Paths and query parameters", arguments: ["/%", "/%/%", "/api/v2/jobs/%", "/api/v2/jobs/%/events", "/api/v2/assets/by-hash/%", "/run%", "%"])
    func heads(_ pattern: String) async throws {
        let path = pattern.replacing("%", with: hostileLetter)
        let routes = ["/api/v2/jobs", "/api/v2/jobs/{id}", "/api/v2/jobs/{id}/events", "/api/v2/assets/by-hash/{hash}", "/run"].map {
            Route("GET", $0, access: .tokenOrSignature) { request, path in
                _ = (JobID(path["id"]), ContentHash(path["hash"]), Int(path["n"]))
                return Response(status: 200, headers: [:], body: .empty)
            }
        }
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        for flags in [[], ["--token", "correct-horse-battery-staple"]] {
            let configuration = try BridgeConfiguration(OptionReader(BridgeConfiguration.options, arguments: flags, environment: [:]))
            let router = Router(routes: routes, access: AccessGuard(configuration.access), drain: Drain(keepsJobs: false, logger: logger), logger: logger)
            for query in [("expires", hostileLetter), (hostileLetter, "1"), ("signature", hostileLetter), ("signed_events", hostileLetter)] {
                let response = await router.respond(to: Request(path: path, query: [query, ("expires", "1"), ("signature", "a")], headers: ["Host": "localhost"]))
                #expect([200, 400, 401, 404].contains(response.status))
                if case .bytes(let bytes) = response.body { #expect(bytes.count < 1000) }
            }
        }
    }

    @Test func optionsAndFilters() throws {
        enum Choice: String, CaseIterable { case one, two }
        let names = ["a", hostileLetter]
        for name in names {
            let request = Request(query: [(name, hostileLetter), ("a", "one")])
            #expect(throws: APIError.self) { try Request(query: [("a", hostileLetter)]).choice("a", default: Choice.two) }
            #expect(throws: APIError.self) { try Request(query: [("a", hostileLetter)]).flag("a") }
            #expect(throws: APIError.self) { try Request(query: [("a", hostileLetter)]).integer("a", default: 1, in: 0...1) }
            #expect(throws: APIError.self) { try Request(query: [("a", hostileLetter)]).seconds("a") }
            #expect(request.queryValue("b") == nil)
        }
        for name in ["status", "metadata", "cursor", "limit"] {
            #expect(throws: APIError.self) { try JobQuery(Request(query: [(name, hostileLetter)])) }
        }
        let query = try JobQuery(Request(query: [("metadata[\(hostileLetter)]", hostileLetter), ("metadata[b]", "c")]))
        #expect(query.matches(Job(submission: try .sample(metadata: [hostileLetter: .string(hostileLetter), "b": "c"]))))
        #expect(!query.matches(Job(submission: try .sample(metadata: [hostileLetter: .string(hostileLetter + "x"), "b": "c"]))))
        #expect(throws: AssetPath.Unusable.self) { try AssetPath.checked(hostileLetter) }
        #expect(ContentHash(hostileLetter) == nil && JobID(hostileLetter) == nil && JobCursor(hostileLetter) == nil)
    }

    @Test func twoKeysThatOnlyLookTheSame() async throws {
        let keys = IdempotencyKeys(.job, store: nil)
        for key in ["\u{E9}", "e\u{301}", hostileLetter] {
            guard case .granted = try await keys.claim(key, digest: []) else { Issue.record("\(key.excerpt) is no new key"); continue }
        }
        let (composed, decomposed): (JSONObject, JSONObject) = (["\u{E9}": 1], ["e\u{301}": 1])
        let query = try JobQuery(Request(query: [("metadata[\u{E9}]", "1")]))
        let (fitting, other) = (Job(submission: try .sample(metadata: composed)), Job(submission: try .sample(metadata: decomposed)))
        #expect(query.matches(fitting) && !query.matches(other))
        let node: JSON = ["class_type": "A", "inputs": ["e\u{301}": 1, "\u{E9}": ["e\u{301}", 0]]]
        let workflow = try Workflow(checking: ["\u{E9}": node, "e\u{301}": node])
        #expect(workflow.nodes.count == 2 && workflow.nodes["\u{E9}"]?.inputs.count == 2)
        #expect(workflow.reachable(from: ["\u{E9}"]).count == 2 && workflow.reachable(from: ["e\u{301}"]).count == 1)
    }
}
