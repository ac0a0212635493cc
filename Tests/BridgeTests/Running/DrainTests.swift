import AsyncHTTPClient
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import OrderedCollections
import OrderedJSON
import ServiceLifecycleTestKit
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import TestSupport
@testable import Workers

/// A graceful stop, while a slow download keeps the bridge from being over at once.
@Suite(.timeLimit(.minutes(5))) struct DrainTests {
    private static let size = 40_000_000

    @Test func callersAreSentAwayAndTheRestMayFinish() async throws {
        try await testGracefulShutdown { shutdown in
            try await withSimulator { simulator, port in
                try await withBridge([port], ["--drain-timeout", "60"]) { bridge in
                    let file = try await bridge.run(Graph.output(["images": [["filename": "large.bin"]]], bytes: Self.size)).json
                    let download = try await bridge.open(.GET, file["outputs"]?[0]?["url"]?.string ?? "", body: nil)
                    var content = download.body.makeAsyncIterator()
                    var received = try await content.next()?.readableBytes ?? 0

                    async let running = bridge.run(Graph.delay(milliseconds: 600_000, seed: 1))
                    try await simulator.accepted(2)
                    let first = try await bridge.get("/api/v2/jobs?limit=1").json["jobs"]?[0]?["id"]?.string ?? ""
                    try await bridge.untilRunning(first)
                    async let inside = bridge.run(Graph.delay(milliseconds: 600_000, seed: 2), query: "?on_disconnect=continue")
                    try await simulator.accepted(3)
                    async let queued = bridge.run(Graph.delay(milliseconds: 600_000, seed: 3), [("Prefer", "wait=3600")])
                    try await bridge.until("1 wait in the bridge") { try await $0.get("/readyz").json["queued_jobs"] == 1 }
                    async let bytes = bridge.run(Graph.delay(milliseconds: 600_000, seed: 5), [("Accept", "image/png")])
                    try await bridge.until("2 wait in the bridge") { try await $0.get("/readyz").json["queued_jobs"] == 2 }
                    let ids = try await bridge.get("/api/v2/jobs?status=running,queued").json["jobs"]?.array?.compactMap { $0["id"]?.string } ?? []
                    #expect(ids.count == 4)
                    let viewed = try #require(ids.last)
                    let stream = try await bridge.open(.GET, "/api/v2/jobs/\(viewed)/events", body: nil)
                    let live = try await bridge.open(.POST, "/run", [("Accept", "text/event-stream")], body: Graph.delay(milliseconds: 600_000, seed: 4).encoded())

                    shutdown.triggerGracefulShutdown()

                    for (answer, status, words) in [
                        (try await running, "running", "output folder"), (try await inside, "queued", "Submit it again"), (try await queued, "queued", "Submit it again"),
                    ] {
                        #expect(answer.status == 202)
                        let job = try answer.json
                        #expect(job["status"]?.string == status)
                        #expect(job["message"]?.string?.contains(words) == true)
                        #expect(answer.headers.first(name: "Location") == "/api/v2/jobs/\(job["id"]?.string ?? "")")
                        #expect(answer.headers.first(name: "Retry-After") != nil)
                    }
                    let sentAway = try await bytes
                    #expect(sentAway.status == 503 && sentAway.errorCode == "shutting_down" && sentAway.headers.first(name: "Retry-After") != nil)
                    let location = try #require(sentAway.headers.first(name: "Location"))
                    let details = try sentAway.json["error"]?["details"]
                    #expect(location.hasSuffix(details?["job_id"]?.string ?? "?"))
                    let asked = try await bridge.get(location, [("Accept", "image/png"), ("Prefer", "wait=3600")])
                    #expect(asked.status == 503 && asked.errorCode == "shutting_down")
                    for response in [stream, live] {
                        let text = String(buffer: try await response.body.collect(upTo: 1 << 20))
                        #expect(text.hasSuffix("\nretry: 2000\n"))
                    }

                    // The door stays open for those who want to know, and for what was promised.
                    let ready = try await bridge.get("/readyz")
                    #expect(ready.status == 503)
                    #expect(try ready.json["reason"] == "draining")
                    #expect(try ready.json["ready"] == false)
                    #expect(try await bridge.get("/api/v2/health").status == 200)
                    #expect(try await bridge.job(viewed)["status"] == "running")
                    #expect(try await bridge.get("/api/v2/jobs/\(viewed)", [("Prefer", "wait=3600")]).json["status"] == "running")
                    for (method, path) in [("POST", "/run"), ("POST", "/api/v2/jobs"), ("POST", "/api/v2/assets"), ("POST", "/api/v2/assets/from-hash")] {
                        let refused = try await bridge.send(HTTPMethod(rawValue: method), path, body: Graph.picture().encoded())
                        #expect(refused.status == 503)
                        #expect(refused.errorCode == "shutting_down")
                        #expect(refused.headers.first(name: "Retry-After") != nil)
                        #expect(refused.headers.first(name: "Connection") == "close")
                    }

                    while let piece = try await content.next() { received += piece.readableBytes }
                    #expect(received == Self.size)
                    // Nothing is left to wait for. A plain connection, since the HTTP client would try for a minute.
                    let address = try SocketAddress(ipAddress: "127.0.0.1", port: try #require(URL(string: bridge.base)?.port))
                    await #expect(throws: (any Error).self) {
                        while true { try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup).connect(to: address).get().close() }
                    }
                    // ComfyUI was left alone with what it has.
                    let inComfyUI = try await RunningBridge(base: "http://127.0.0.1:\(port)").get("/queue").json
                    #expect(inComfyUI["queue_running"]?.array?.count == 1)
                    #expect(inComfyUI["queue_pending"]?.array?.count == 1)
                }
            }
        }
    }

    @Test(
        "What a caller is told depends on whether the job is kept",
        arguments: [
            (true, JobStatus.queued, "when the bridge is back"), (true, .running, "when the bridge is back"), (false, .queued, "is lost"), (false, .running, "output folder"),
        ])
    func message(_ keepsJobs: Bool, _ status: JobStatus, _ words: String) {
        let drain = Drain(keepsJobs: keepsJobs, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        #expect(drain.message(about: status).contains(words))
    }
}
