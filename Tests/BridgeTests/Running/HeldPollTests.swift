import AsyncHTTPClient
import Logging
import MicroHTTP
import NIOCore
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import ServiceLifecycleTestKit
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport

/// `GET /api/v2/jobs/{id}` that is answered later.
@Suite(.timeLimit(.minutes(5))) struct HeldPollTests {
    private static let sdk = ("User-Agent", "comfy-sdk-python/0.5.0 (CPython 3.11)")

    @Test func aPollWithAWaitIsAnsweredWhenTheStatusChanges() async throws {
        try await withBridge { bridge, simulator in
            let blocker = try await bridge.submit(Graph.delay(milliseconds: 600_000))
            let next = try await bridge.submit(Graph.delay(milliseconds: 600_000, seed: 2))
            try await simulator.accepted(2)
            async let poll = bridge.get("/api/v2/jobs/\(next)", [("Prefer", "wait=3600")])
            _ = try await bridge.send(.POST, "/api/v2/jobs/\(blocker)/cancel")
            try await bridge.events(of: next, until: { $0.json["status"] == "running" })
            async let end = bridge.get("/api/v2/jobs/\(next)", [("Prefer", "wait=3600")])
            _ = try await bridge.send(.POST, "/api/v2/jobs/\(next)/cancel")
            // A poll that was slow to arrive waited for the change after the one it was sent for.
            let answer = try await poll
            #expect(["running", "canceling", "canceled"].contains(try answer.json["status"]?.string))
            #expect(answer.headers.first(name: "Preference-Applied") == "wait=3600")
            let last = try await end
            #expect(["canceling", "canceled"].contains(try last.json["status"]?.string))
        }
    }

    @Test func aPollWaitsNoLongerThanItsLimit() async throws {
        try await withBridge { bridge, _ in
            let id = try await bridge.submit(Graph.delay(milliseconds: 600_000))
            try await bridge.events(of: id, until: { $0.json["status"] == "running" })
            for (preference, applied) in [("wait=1", "wait=1"), ("wait=0", "wait=0"), ("respond-async", "respond-async"), ("return=minimal", nil)] {
                let answer = try await bridge.get("/api/v2/jobs/\(id)", [("Prefer", preference)])
                #expect(answer.status == 200)
                #expect(try answer.json["status"] == "running")
                #expect(answer.headers.first(name: "Preference-Applied") == applied)
            }
            #expect(try await bridge.get("/api/v2/jobs/\(id)", [("Prefer", "wait=x")]).status == 400)
            // The SDK says nothing of waiting, unless somebody does for it.
            #expect(try await bridge.get("/api/v2/jobs/\(id)", [Self.sdk, ("Prefer", "wait=0")]).json["status"] == "running")
        }
    }

    @Test func thePollOfAnEndedJobIsAnsweredAtOnce() async throws {
        try await withBridge { bridge, _ in
            let id = try await bridge.submit(Graph.picture())
            try await bridge.events(of: id)
            #expect(try await bridge.get("/api/v2/jobs/\(id)", [("Prefer", "wait=3600")]).json["status"] == "succeeded")
            #expect(try await bridge.get("/api/v2/jobs/\(id)", [Self.sdk]).json["status"] == "succeeded")
        }
    }

    @Test func pollsOfTheSDKAreHeldUntilTheJobIsOver() async throws {
        try await withBridge(["--sdk-hold", "25"]) { bridge, _ in
            let id = try await bridge.submit(Graph.delay(milliseconds: 300))
            let poll = try await bridge.get("/api/v2/jobs/\(id)", [Self.sdk])
            #expect(try poll.json["status"] == "succeeded")
            #expect(try poll.json["outputs"]?.array?.count == 1)
            #expect(poll.headers.first(name: "Preference-Applied") == nil)
        }
    }

    /// Nobody is told of an end before it is on the disk: a poll that comes just then is held as well, or the SDK would pause for half a second.
    @Test func pollsOfTheSDKAreHeldUntilTheEndIsWritten() async throws {
        try await withAPI(sdkHold: .milliseconds(50)) { api in
            let journal = IdleJournal()
            let job = Job(submission: try .sample(), journal: journal)
            try await api.service.store.insert(job, key: nil)
            job.finish(.succeeded)
            let router = Router(routes: Routes.all(api), access: api.access, drain: api.drain, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            let poll = Request(path: "/api/v2/jobs/\(job.id)", headers: ["Host": "localhost", Self.sdk.0: Self.sdk.1])
            let asked = ContinuousClock.now
            #expect(await router.respond(to: poll).status == 200)
            #expect(.now - asked >= .milliseconds(50))
        }
    }

    @Test("The hold has a limit, and can be turned off", arguments: ["0.1", "0"]) func holdLimit(_ hold: String) async throws {
        try await withBridge(["--sdk-hold", hold]) { bridge, _ in
            let id = try await bridge.submit(Graph.delay(milliseconds: 600_000))
            try await bridge.events(of: id, until: { $0.json["status"] == "running" })
            #expect(try await bridge.get("/api/v2/jobs/\(id)", [Self.sdk]).json["status"] == "running")
        }
    }

    @Test func aHeldPollOfTheSDKIsHeardOfAllTheTime() async throws {
        try await withBridge(["--sdk-hold", "25"]) { bridge, _ in
            let id = try await bridge.submit(Graph.delay(milliseconds: 60_000))
            let response = try await bridge.open(.GET, "/api/v2/jobs/\(id)", [Self.sdk], body: nil)
            #expect(response.headers.first(name: "Content-Type") == "application/json")
            var body: [UInt8] = []
            for try await piece in response.body {
                body += piece.readableBytesView
                // The second blank shows that the first was no accident.
                if body == Array("  ".utf8) { _ = try await bridge.send(.POST, "/api/v2/jobs/\(id)/cancel") }
            }
            let job = try JSON(parsing: body)
            #expect(job["status"] == "canceled" || job["status"] == "canceling")
        }
    }

    /// Polls a queued job of a server without a ComfyUI, with all the time in the world; the body runs once the request has come,
    /// which is known from the inside only.
    ///
    /// - Parameter body: also gets to know when the request is over.
    private func withPoll(
        _ body: (_ poll: Task<RunningBridge.Answer, any Error>, _ isOver: AsyncStream<Void>) async throws -> Void
    ) async throws {
        try await withAPI { api in
            let job = Job(submission: try .sample())
            try await api.service.store.insert(job, key: nil)
            let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            let router = Router(routes: Routes.all(api), access: api.access, drain: api.drain, logger: logger)
            let (arrivals, arrival) = AsyncStream.makeStream(of: Void.self)
            let (ends, end) = AsyncStream.makeStream(of: Void.self)
            let server = HTTPServer(configuration: .init(drainTimeout: .seconds(3600)), logger: logger, failure: { failure, _ in APIError(failure).response }) { _ in
                .admitted(body: .collected(limit: 0)) { request in
                    arrival.yield()
                    defer { end.yield() }
                    return await router.respond(to: request)
                }
            }
            let bridge = RunningBridge(base: "http://127.0.0.1:\(try server.start())")
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await server.run() }
                let poll = Task { try await bridge.get("/api/v2/jobs/\(job.id)", [("Prefer", "wait=86400")]) }
                for await _ in arrivals { break }
                try await body(poll, ends)
                group.cancelAll()
            }
        }
    }

    @Test func aShutdownDoesNotWaitForPolls() async throws {
        try await testGracefulShutdown { shutdown in
            try await withPoll { poll, _ in
                shutdown.triggerGracefulShutdown()
                let answer = try await poll.value
                #expect(answer.status == 200)
                #expect(try answer.json["status"] == "queued")
            }
        }
    }

    @Test func aCallerThatLeavesEndsItsWait() async throws {
        try await withPoll { poll, isOver in
            poll.cancel()
            for await _ in isOver { break }
        }
    }
}
