import Foundation
import GRDB
import Logging
import MicroHTTP
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Jobs
@testable import Store
@testable import TestSupport
@testable import Workers
@testable import Workflow

/// A database that cannot be written (any more, for a time).
@Suite(.timeLimit(.minutes(5))) struct StoreFailureTests {
    private static let refusal = "RAISE(ABORT, 'no')"

    /// Tables that a submission writes to, each as the one that refuses.
    @Test("A submission that cannot be written leaves nothing", arguments: ["jobs", "submissions", "events", "idempotency_keys"])
    func submission(_ table: String) async throws {
        try await withStorage { storage, disk in
            try await disk.execute("CREATE TRIGGER refuse BEFORE INSERT ON \(table) BEGIN SELECT \(Self.refusal); END")
            let key = UsedKey(operation: .job, key: "k", digest: [1])
            await #expect(throws: StorageError.failed("no")) { _ = try await storage.insert(try .sample(), key: key) }
            #expect(storage.jobs.failure?.contains("no") == true)
            for table in ["jobs", "submissions", "events", "idempotency_keys"] {
                let count = try await disk.count(table)
                #expect(count == 0, "\(table)")
            }
            let page = try await storage.jobs.jobs(JobQuery())
            #expect(page.jobs.isEmpty)
            // A transaction that has nothing to write does not show that writing works.
            _ = try await storage.jobs.removeEnded(beyond: RetentionLimit(date: .distantPast, count: .max, bytes: .max))
            #expect(storage.jobs.failure?.contains("no") == true)
            try await disk.execute("DROP TRIGGER refuse")
            let job = try await storage.insert(try .sample(), key: key)
            #expect(storage.jobs.failure == nil)
            let found = try await storage.jobs.job(job.id)
            #expect(found === job)
        }
    }

    @Test func aFullDiskIsCalledThat() async throws {
        try await withStorage { storage, disk in
            let pages = try await disk.database.read { db in try Int.fetchOne(db, sql: "PRAGMA page_count") ?? 0 }
            try await disk.execute("PRAGMA max_page_count = \(pages)")
            let graph: JSON = ["1": ["class_type": "A", "inputs": ["text": .string(String(repeating: "x", count: 100_000))]]]
            let submission = Submission(workflow: try Workflow(checking: graph), outputNodes: [])
            await #expect(throws: StorageError.full) { _ = try await storage.insert(submission) }
            let error = APIError(StorageError.full)
            #expect(error.status == 507 && error.code == "insufficient_storage")
            try await disk.execute("PRAGMA max_page_count = 1000000")
            _ = try await storage.insert(submission)
            let count = try await disk.count("jobs")
            #expect(count == 1)
        }
    }

    @Test("A job goes on while it cannot be written, and is written whole afterwards", arguments: ["INSERT ON events", "UPDATE ON jobs", "INSERT ON assets"])
    func running(_ refused: String) async throws {
        try await withTemporaryFolder { folder in
            var id = JobID()
            try await withStorage(folder) { storage, disk in
                let job = try await storage.insert(try .sample())
                id = job.id
                try await disk.execute("CREATE TRIGGER refuse BEFORE \(refused) BEGIN SELECT \(Self.refusal); END")
                job.started()
                await storage.jobs.record(job)
                job.add(Output(job: job.id, node: "1", name: "a", kind: .text, contentType: "text/plain", blob: Blob(text: "a")))
                job.publish(.log(LogEntry(.info, "x")))
                job.finish(.succeeded)
                await job.wait(until: \.isTerminal)
                #expect(storage.jobs.failure != nil)
                // Callers are told, and find it, for as long as this process lives.
                #expect(job.snapshot.status == .succeeded && job.snapshot.outputs.count == 1)
                #expect(job.events(after: 0, limit: 10)?.compactMap(\.id) == [1, 2, 3, 4, 5])
                await storage.jobs.recordEnd(of: job)
                let asset = try await storage.assets.asset(job.outputs[0].asset.id)
                #expect(asset?.id == job.outputs[0].asset.id)
                await disk.jobs.retry()
                #expect(storage.jobs.failure != nil)
                try await disk.execute("DROP TRIGGER refuse")
                await disk.jobs.retry()
                #expect(storage.jobs.failure == nil)
            }
            try await withStorage(folder) { storage, disk in
                let open = try await storage.jobs.restore()
                #expect(open.isEmpty)
                let job = try #require(try await storage.jobs.job(id))
                #expect(job.snapshot.status == .succeeded && job.snapshot.outputs.map(\.name) == ["a"])
                #expect(await job.read(after: 0, limit: 10)?.compactMap(\.id) == [1, 2, 3, 4, 5])
            }
        }
    }

    @Test func whatCannotBeWrittenAloneDoesNotHoldUpOthers() async throws {
        try await withStorage { storage, disk in
            let bad = try await storage.insert(try .sample()), good = try await storage.insert(try .sample())
            try await disk.execute("CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.event_json LIKE '%poison%' BEGIN SELECT \(Self.refusal); END")
            try await whileWriterIsHeld(disk.database) {
                good.started()
                bad.publish(.log(LogEntry(.info, "poison")))
                good.publish(.log(LogEntry(.info, "fine")))
            }
            for job in [bad, good] { await storage.jobs.record(job) }
            let rows = try await disk.rows("SELECT jobs.id, count(*) AS n FROM events JOIN jobs ON jobs.place = events.job GROUP BY job ORDER BY job")
            #expect(rows == [["id": bad.id.description, "n": "1"], ["id": good.id.description, "n": "3"]])
        }
    }

    @Test func aBridgeThatCannotWriteSaysSoAndRecovers() async throws {
        try await withTemporaryFolder { folder in
            try await withBridge(["--data-dir", folder], logger: Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }) { bridge, _ in
                var configuration = Configuration()
                configuration.busyMode = .timeout(10)
                let other = try DatabaseQueue(path: folder + "/comfy-bridge.sqlite", configuration: configuration)
                let running = try await bridge.submit(Graph.delay(milliseconds: 300))
                try await bridge.events(of: running, until: { $0.json["status"] == "running" })
                try await other.write { db in
                    for (number, action) in ["INSERT ON jobs", "INSERT ON events", "UPDATE ON jobs", "INSERT ON workers"].enumerated() {
                        try db.execute(sql: "CREATE TRIGGER refuse\(number) BEFORE \(action) BEGIN SELECT \(Self.refusal); END")
                    }
                }
                let refused = try await bridge.send(.POST, "/api/v2/jobs", [("Idempotency-Key", "k")], body: (["workflow": Graph.picture()] as JSON).encoded())
                #expect(refused.status == 500 && refused.errorCode == "internal_error")
                let ready = try await bridge.get("/readyz")
                #expect(ready.status == 503)
                #expect(try ready.json["storage"]?["reason"]?.string?.contains("no") == true)
                // The job that runs, and who watches it, go on.
                let events = try await bridge.events(of: running)
                #expect(events.last?.json["status"] == "succeeded")
                try await other.write { db in for number in 0..<4 { try db.execute(sql: "DROP TRIGGER refuse\(number)") } }
                // It notices by itself.
                try await bridge.untilReady()
                let taken = try await bridge.send(.POST, "/api/v2/jobs", [("Idempotency-Key", "k")], body: (["workflow": Graph.picture()] as JSON).encoded())
                #expect(taken.status == 201, "the key was not used up")
                // So does what could not be written meanwhile.
                func stored() async throws -> String? {
                    try await other.read { db in try String.fetchOne(db, sql: "SELECT status FROM jobs WHERE id = ?", arguments: [running]) }
                }
                try await bridge.until("the end of the job is on disk") { _ in try await stored() == "succeeded" }
                try other.close()
            }
        }
    }
}
