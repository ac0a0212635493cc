import AsyncHTTPClient
import Foundation
import GRDB
import Logging
import InMemoryLogging
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import Bridge
@testable import Jobs
@testable import Store
@testable import TestSupport
@testable import Workflow

/// A database file in which bytes are not what they were.
@Suite(.timeLimit(.minutes(10))) struct DamageTests {
    private func path(_ folder: String) -> String { folder + "/comfy-bridge.sqlite" }

    /// A folder with ended jobs, in a file of many pages without a journal beside it.
    private func fill(_ folder: String, jobs: Int = 40, withOpen: Bool = true) async throws {
        try await withStorage(folder) { storage, disk in
            for number in 0..<jobs {
                let submission = Submission(
                    workflow: try Workflow(checking: ["1": ["class_type": "A", "inputs": ["text": .string(String(repeating: "x", count: 500))]]]), outputNodes: [],
                    metadata: ["number": JSON(number)])
                let job = try await storage.insert(submission)
                job.started()
                job.add(Output(job: job.id, node: "1", name: "a", kind: .text, contentType: "text/plain", blob: Blob(text: "a")))
                for _ in 0..<5 { job.publish(.log(LogEntry(.info, "entry"))) }
                if !withOpen || number % 4 != 0 { job.finish(.succeeded) }
                await storage.jobs.record(job)
            }
            try await storage.assets.insert(
                Asset(blob: try await storage.blobs.keep([1, 2, 3]), filePath: "a.bin", contentType: "x/y", tags: [], createdAt: Date(), expiresAt: Date(timeIntervalSinceNow: 100)))
            try await disk.database.write { db in try db.execute(sql: "INSERT INTO idempotency_keys (operation, key, digest, date) VALUES ('job', 'k', x'01', 800000000)") }
        }
        // What is still in the journal goes into the file: a connection may be closed later than the store.
        let queue = try DatabaseQueue(path: path(folder))
        try await queue.writeWithoutTransaction { db in _ = try db.checkpoint(.truncate) }
        try queue.close()
        for suffix in ["-wal", "-shm"] { try FileManager.default.removeItem(atPath: path(folder) + suffix, ifThere: true) }
    }

    /// The pages of a table and of its index, by SQLite's own books.
    private func pages(_ folder: String, of name: String) throws -> (size: Int, numbers: [Int]) {
        let queue = try DatabaseQueue(path: path(folder))
        defer { try? queue.close() }
        return try queue.read { db in
            let size = try Int.fetchOne(db, sql: "PRAGMA page_size") ?? 0
            return (size, try Int.fetchAll(db, sql: "SELECT rootpage FROM sqlite_master WHERE name = ?", arguments: [name]))
        }
    }

    private func overwrite(_ folder: String, page: Int, size: Int, with byte: UInt8 = 0xA5, count: Int = 64) throws {
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: path(folder)))
        try file.seek(toOffset: UInt64((page - 1) * size))
        try file.write(contentsOf: Data(repeating: byte, count: count))
        try file.close()
    }

    private func contents(_ folder: String) throws -> Data { try Data(contentsOf: URL(fileURLWithPath: path(folder))) }

    @Test("A file that is no database is left alone", arguments: [0, 100, 20_000])
    func start(_ kept: Int) async throws {
        try await withTemporaryFolder { folder in
            try await fill(folder)
            var data = try contents(folder)
            for index in data.indices where index >= kept && index < kept + 3000 { data[index] ^= 0x5A }
            // The root of the first table, with the schema, is on page 1.
            if kept > 100 { for index in 100..<200 { data[index] ^= 0x5A } }
            try data.write(to: URL(fileURLWithPath: path(folder)))
            let error = #expect(throws: DataDirectoryError.self) {
                try Storage(directory: folder, previewHistory: 16, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            }
            let text = error?.description ?? ""
            #expect(text.hasPrefix("The database \(path(folder)) is damaged (") && text.contains("It was left as it is") && text.contains("--data-dir"), "\(text)")
            #expect(try contents(folder) == data)
        }
    }

    @Test func aListThatFailsIsToldOfAndStays() async throws {
        try await withTemporaryFolder { folder in
            try await fill(folder)
            let (size, numbers) = try pages(folder, of: "assets_by_job")
            try overwrite(folder, page: try #require(numbers.first), size: size)
            let before = try contents(folder)
            let log = InMemoryLogHandler()
            var logger = Logger(label: "test") { _ in log }
            logger.logLevel = .info
            let storage = try Storage(directory: folder, previewHistory: 16, logger: logger)
            #expect(storage.jobs.failure == nil)
            for _ in 0..<3 {
                await #expect(throws: StorageError.self) { _ = try await storage.jobs.jobs(JobQuery()) }
                let failure = storage.jobs.failure ?? ""
                #expect(failure.hasPrefix(path(folder) + ": ") && failure.contains("malformed"), "\(failure)")
            }
            #expect(log.entries.filter { $0.level >= .error }.map(\.level) == [.critical])
            // New jobs are not taken, and nothing is written.
            await #expect { _ = try await storage.insert(try .sample()) } throws: { if case .damaged? = $0 as? StorageError { true } else { false } }
            await storage.disk?.jobs.retry()
            #expect(storage.jobs.failure != nil)
            await storage.close()
            #expect(try contents(folder) == before)
        }
    }

    @Test func aBridgeWithADamagedFileSaysSoAndGoesOn() async throws {
        try await withTemporaryFolder { folder in
            try await fill(folder, withOpen: false)
            let (size, numbers) = try pages(folder, of: "assets_by_job")
            try overwrite(folder, page: try #require(numbers.first), size: size)
            try await withBridge(["--data-dir", folder], logger: Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }) { bridge, _ in
                // Nobody has looked at the broken page.
                let running = try await bridge.submit(Graph.delay(milliseconds: 600_000))
                try await bridge.events(of: running, until: { $0.json["status"] == "running" })
                let waiting = try await bridge.submit(Graph.picture(seed: 31))
                let list = try await bridge.get("/api/v2/jobs?limit=100")
                #expect(list.status == 500 && list.errorCode == "internal_error")
                #expect(try list.json["error"]?["message"]?.string?.contains("is damaged") == true)
                let ready = try await bridge.get("/readyz")
                #expect(ready.status == 503)
                #expect(try ready.json["storage"]?["reason"]?.string?.contains("malformed") == true)
                let refused = try await bridge.send(.POST, "/api/v2/jobs", body: (["workflow": Graph.picture()] as JSON).encoded())
                #expect(refused.status == 500 && refused.errorCode == "internal_error")
                #expect(try await bridge.get("/api/v2/health").status == 200)
                // What runs and what waits comes to its end.
                _ = try await bridge.send(.POST, "/api/v2/jobs/\(running)/cancel")
                let events = try await bridge.events(of: waiting)
                #expect(events.last?.json["status"] == "succeeded")
                #expect(try await bridge.get("/readyz").status == 503, "it stays so")
            }
        }
    }

    /// Whatever is read out of a broken file is an error or a value, never the end of the process.
    @Test("Bytes that flipped anywhere", arguments: 0..<40)
    func anywhere(_ seed: Int) async throws {
        try await withTemporaryFolder { folder in
            try await fill(folder, jobs: 12)
            let original = try contents(folder)
            var random = SplitMix(state: UInt64(seed))
            for _ in 0..<5 {
                var data = original
                for _ in 0..<(1 + Int(random.next() % 40)) { data[Int(random.next() % UInt64(data.count))] = UInt8(truncatingIfNeeded: random.next()) }
                for suffix in ["-wal", "-shm"] { try FileManager.default.removeItem(atPath: path(folder) + suffix, ifThere: true) }
                try data.write(to: URL(fileURLWithPath: path(folder)))
                guard
                    let storage = try? Storage(
                        directory: folder, previewHistory: 16, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
                else { continue }
                let open = (try? await storage.jobs.restore()) ?? []
                var query = JobQuery()
                query.limit = 5
                var jobs = open
                for statuses in [nil, Set([JobStatus.succeeded, .running])] {
                    query.statuses = statuses
                    query.before = nil
                    for _ in 0..<10 {
                        guard let page = try? await storage.jobs.jobs(query) else { break }
                        jobs += page.jobs
                        query.before = page.next
                        guard page.next != nil else { break }
                    }
                }
                for job in jobs {
                    _ = try? await storage.jobs.workflow(of: job)
                    _ = await job.read(after: 0, limit: 100)
                    for output in job.outputs { _ = try? await storage.assets.asset(output.asset.id) }
                }
                _ = try? await storage.assets.upload(at: "a.bin")
                _ = try? await storage.assets.expired(before: Date(timeIntervalSinceNow: 1000))
                _ = try? await storage.disk?.keys.key("k", .job, since: Date(timeIntervalSinceReferenceDate: 0))
                _ = try? await storage.insert(try .sample())
                _ = try? await storage.jobs.removeEnded(beyond: RetentionLimit(date: .distantPast, count: 3))
                await storage.close()
            }
        }
    }
}

private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

extension FileManager {
    fileprivate func removeItem(atPath path: String, ifThere: Bool) throws {
        if !ifThere || fileExists(atPath: path) { try removeItem(atPath: path) }
    }
}
