import Foundation
import GRDB
import Logging
import OrderedCollections
import OrderedJSON
import Testing

@testable import Jobs
@testable import Store
@testable import TestSupport

/// Ended jobs go with everything that is theirs, and nothing else goes.
@Suite(.timeLimit(.minutes(5))) struct RetentionTests {
    private struct Kept {
        let storage: Storage
        let disk: Storage.Disk
        let service: JobService
        let previews: String

        /// A job that is over, with a captured output of its own, one that all share, and a preview file.
        func addEnded(_ number: Int, endedAgo age: Double = 0) async throws -> Job {
            let job = Job(submission: try .sample(), journal: storage.jobs.journal)
            try await storage.jobs.insert(job, key: nil)
            for bytes in [[UInt8](repeating: UInt8(number), count: 10_000), [255, 255]] {
                job.add(Output(job: job.id, node: "1", name: "a.png", kind: .image, contentType: "image/png", blob: try await storage.blobs.keep(bytes)))
            }
            let preview = try #require(job.publish(preview: [1], node: "1", contentType: "image/jpeg"))
            let files = try PreviewFiles(directory: previews, logger: .errorsOnly)
            files.write(preview, job: job.id)
            await files.flush()
            await service.end(job, .succeeded)
            await storage.jobs.record(job)
            if age > 0 {
                let date = Date(timeIntervalSinceNow: -age).timeIntervalSinceReferenceDate
                try await disk.execute("UPDATE jobs SET completed_at = \(date) WHERE id = '\(job.id)'")
            }
            return job
        }

        var blobCount: Int { (FileManager.default.subpaths(atPath: disk.directory.path + "/blobs") ?? []).filter { $0.contains("/") }.count }
    }

    private func withKept(_ change: (inout JobService.Configuration) -> Void, _ body: (Kept) async throws -> Void) async throws {
        try await withTemporaryFolder { folder in
            try await withStorage(folder + "/data") { storage, disk in
                var configuration = JobService.Configuration()
                configuration.retention = .seconds(1000)
                change(&configuration)
                let assets = AssetService(store: storage.assets, blobs: storage.blobs, comfyFiles: NoComfyFiles(), retention: nil, inUse: { [] }, logger: .errorsOnly)
                let previews = folder + "/previews"
                let service = JobService(
                    configuration: configuration, store: storage.jobs, keys: IdempotencyKeys(.job, store: storage.keys), assets: assets, previewFiles: try PreviewFiles(directory: previews, logger: .errorsOnly), metrics: Metrics(),
                    logger: .errorsOnly)
                try await body(Kept(storage: storage, disk: disk, service: service, previews: previews))
            }
        }
    }

    private func expectKept(_ jobs: [Job], of all: [Job], in kept: Kept) async throws {
        for job in all {
            let isKept = jobs.contains { $0 === job }
            let found = try await kept.storage.jobs.job(job.id)
            #expect((found === job) == isKept && (found != nil) == isKept)
            for output in job.outputs {
                let asset = try await kept.storage.assets.asset(output.asset.id)
                #expect((asset != nil) == isKept)
            }
            let restEvents = job.events(after: 0, limit: 10)
            #expect(restEvents != nil, "who watches it still sees it")
        }
        #expect(filesIn(kept.previews) == jobs.map(\.id.description).sorted())
        #expect(kept.blobCount == (jobs.isEmpty ? 0 : jobs.count + 1))
        let counts = try await [kept.disk.count("jobs"), kept.disk.count("submissions"), kept.disk.count("assets"), kept.disk.count("events")]
        #expect(counts == [jobs.count, jobs.count, 2 * jobs.count, 4 * jobs.count])
    }

    @Test("The time is over for some", arguments: 0...3) func byTime(_ expired: Int) async throws {
        try await withKept({ _ in }) { kept in
            var jobs: [Job] = []
            for number in 0..<3 { jobs.append(try await kept.addEnded(number, endedAgo: number < expired ? 2000 - Double(number) : 0)) }
            try await kept.service.removeEnded()
            try await expectKept(Array(jobs.dropFirst(expired)), of: jobs, in: kept)
        }
    }

    @Test("Only so many are kept", arguments: [0, 1, 3, 5]) func byCount(_ limit: Int) async throws {
        try await withKept({ $0.retainedJobs = limit }) { kept in
            var jobs: [Job] = []
            for number in 0..<4 { jobs.append(try await kept.addEnded(number)) }
            try await kept.service.removeEnded()
            try await expectKept(jobs.suffix(limit), of: jobs, in: kept)
        }
    }

    @Test("The key of a job that is not kept any more is as free as it was", arguments: [nil, .upstreamLost, .nodeExecutionError] as [JobError.Code?])
    func keys(_ code: JobError.Code?) async throws {
        try await withKept({ $0.retainedJobs = 0 }) { kept in
            let job = try await kept.storage.insert(try .sample(), key: UsedKey(operation: .job, key: "k", digest: [1]))
            kept.service.keys.settle("k", job: job.id)
            await kept.service.end(job, code == nil ? .succeeded : .failed, error: code.map { JobError(code: $0, message: "m") })
            try await kept.service.removeEnded()
            let found = try await kept.storage.jobs.job(job.id)
            #expect(found == nil)
            // In memory, and to a process that comes after.
            for keys in [kept.service.keys, IdempotencyKeys(.job, store: kept.storage.keys)] {
                let isReleased = code == .upstreamLost
                guard case .used(let use, isSame: true) = try await keys.claim("k", digest: [1]) else { Issue.record("not used"); continue }
                #expect(use == .init(made: job.id.description, isReleased: isReleased))
                guard case .granted = try await keys.claim("k", digest: [2], replacing: use.made) else { Issue.record("not granted"); continue }
                keys.release("k")
            }
        }
    }

    @Test func jobsThatAreNotOverStay() async throws {
        try await withKept({
            $0.retainedJobs = 0; $0.retention = .zero; $0.retainedBytes = 1
        }) { kept in
            let job = try await kept.storage.insert(try .sample(), createdAt: Date(timeIntervalSinceNow: -1_000_000))
            job.started()
            await kept.storage.jobs.record(job)
            _ = try await kept.addEnded(1)
            try await kept.service.removeEnded()
            let page = try await kept.storage.jobs.jobs(JobQuery())
            #expect(page.jobs.map(\.id) == [job.id])
        }
    }

    @Test func bySizeTheOldestGoFirstAndTheFileShrinks() async throws {
        try await withKept({ $0.retainedBytes = 900_000 }) { kept in
            var jobs: [Job] = []
            for number in 0..<50 { jobs.append(try await kept.addEnded(number)) }
            // Uploads are counted elsewhere.
            try await kept.storage.assets.insert(
                Asset(blob: try await kept.storage.blobs.keep([UInt8](repeating: 7, count: 2_000_000)), filePath: "a", contentType: "x/y"))
            try await kept.service.removeEnded()
            let all = try await kept.storage.jobs.jobs(JobQuery(limit: 500))
            #expect(all.jobs.count == 50, "0.5 MB of outputs and some of database are allowed")
            for number in 50..<100 { jobs.append(try await kept.addEnded(number)) }
            let size = try await kept.disk.database.read { db in try kept.disk.database.size(db) }
            try await kept.service.removeEnded()
            let rest = try await kept.storage.jobs.jobs(JobQuery(limit: 500))
            #expect((40..<80).contains(rest.jobs.count))
            #expect(rest.jobs.map(\.id) == jobs.suffix(rest.jobs.count).reversed().map(\.id))
            #expect(kept.blobCount == rest.jobs.count + 2)
            let (smaller, free) = try await kept.disk.database.read { db in
                (try kept.disk.database.size(db), try Int.fetchOne(db, sql: "PRAGMA freelist_count") ?? -1)
            }
            #expect(smaller < size && free == 0)
        }
    }

    /// What a new job, the list and the clean-up cost must not grow with the number of jobs that are kept.
    @Test(
        "No statement looks at more than it needs",
        arguments: [
            ("SELECT \(JobRows.columns) FROM jobs WHERE id = 'x'", "USING INDEX sqlite_autoindex_jobs"),
            ("SELECT \(JobRows.columns) FROM jobs WHERE status = 'queued' AND place < 5 ORDER BY place DESC LIMIT 50", "USING INDEX jobs_by_status"),
            ("SELECT \(JobRows.columns) FROM jobs WHERE place < 5 ORDER BY place DESC LIMIT 50", "USING INTEGER PRIMARY KEY"),
            ("SELECT \(JobRows.columns) FROM jobs WHERE completed_at IS NOT NULL ORDER BY completed_at, place LIMIT 100", "USING INDEX jobs_by_end"),
            ("SELECT id, date, event_json FROM events WHERE job = 1 AND id > 2 ORDER BY id LIMIT 3", "USING PRIMARY KEY"),
            ("SELECT \(AssetRows.columns) FROM assets WHERE job = 1 ORDER BY position", "USING INDEX assets_by_job"),
            ("DELETE FROM assets WHERE job = 1", "INDEX assets_by_job"), ("DELETE FROM jobs WHERE place = 1", "USING INTEGER PRIMARY KEY"),
            (AssetRows.selection("assets.hash = 'x' LIMIT 1"), "USING INDEX assets_by_hash"),
            (AssetRows.selection("assets.job IS NULL AND assets.file_path = 'x' ORDER BY assets.rowid DESC LIMIT 1"), "USING INDEX assets_by_path"),
            (AssetRows.selection("assets.expires_at < 5 ORDER BY assets.expires_at LIMIT 1000"), "USING INDEX assets_by_expiry"),
            ("SELECT total(size) FROM assets WHERE job IS NOT NULL AND is_stored", "USING COVERING INDEX assets_captured"),
        ]) func plans(_ sql: String, _ expected: String) async throws
    {
        try await withStorage { _, disk in
            let plan = try await disk.database.read { db in try Row.fetchAll(db, sql: "EXPLAIN QUERY PLAN \(sql)").map { $0["detail"] as String } }
            #expect(plan.contains { $0.contains(expected) }, "\(plan)")
            #expect(!plan.contains { $0.contains("TEMP B-TREE") }, "\(plan)")
        }
    }
}

/// The list is the same from disk and from memory.
@Suite(.timeLimit(.minutes(5))) struct StoredListTests {
    @Test("Pages hold every job once, newest first", arguments: [(0, 1), (5, 1), (5, 2), (5, 5), (60, 7)]) func pages(_ count: Int, _ limit: Int) async throws {
        try await withTemporaryFolder { folder in
            var ids: [JobID] = []
            try await withStorage(folder) { storage, _ in
                for number in 0..<count {
                    let metadata: JSONObject = ["parity": number % 2 == 0 ? "even" : "odd"]
                    let job = try await storage.insert(try .sample(metadata: metadata))
                    ids.append(job.id)
                    if number % 3 == 0 { job.finish(number % 2 == 0 ? .failed : .succeeded) }
                    await storage.jobs.record(job)
                }
            }
            try await withStorage(folder) { storage, _ in
                func list(_ query: JobQuery) async throws -> [Int] {
                    var (query, found) = (query, [Int]())
                    query.limit = limit
                    repeat {
                        let page = try await storage.jobs.jobs(query)
                        #expect(page.jobs.count <= limit)
                        found += page.jobs.compactMap { job in ids.firstIndex(of: job.id) }
                        query.before = page.next
                    } while query.before != nil
                    return found
                }
                let all = Array((0..<count).reversed())
                let whole = try await list(JobQuery())
                #expect(whole == all)
                let ended = try await list(JobQuery(statuses: [.failed, .succeeded]))
                #expect(ended == all.filter { $0 % 3 == 0 })
                let odd = try await list(JobQuery(metadata: ["parity": "odd"]))
                #expect(odd == all.filter { $0 % 2 == 1 })
                let both = try await list(JobQuery(statuses: [.queued], metadata: ["parity": "even"]))
                #expect(both == all.filter { $0 % 2 == 0 && $0 % 3 != 0 })
                let none = try await list(JobQuery(statuses: []))
                #expect(none.isEmpty)
            }
        }
    }

    @Test func aBrokenRowHidesNoOther() async throws {
        try await withTemporaryFolder { folder in
            var ids: [JobID] = []
            try await withStorage(folder) { storage, disk in
                for _ in 0..<3 { ids.append(try await storage.insertEnded().id) }
                ids.append(try await storage.insert(try .sample()).id)
                ids.append(try await storage.insert(try .sample()).id)
                try await disk.execute("UPDATE jobs SET error_json = '{' WHERE id IN ('\(ids[1])', '\(ids[3])')")
            }
            try await withStorage(folder) { storage, disk in
                let page = try await storage.jobs.jobs(JobQuery(limit: 2))
                #expect(page.jobs.map(\.id) == [ids[4], ids[2]])
                let rest = try await storage.jobs.jobs(JobQuery(limit: 2, before: page.next))
                #expect(rest.jobs.map(\.id) == [ids[0]])
                let open = try await storage.jobs.restore()
                #expect(open.map(\.id) == [ids[4]])
                let removed = try await storage.jobs.removeEnded(beyond: RetentionLimit(date: .distantFuture))
                #expect(removed.map(\.id) == [ids[0], ids[2]])
                let count = try await disk.count("jobs")
                #expect(count == 2)
            }
        }
    }

    @Test func endedJobsLeaveTheMemory() async throws {
        try await withStorage { storage, _ in
            weak var first: Job?
            var id = JobID()
            for number in 0..<300 {
                let job = try await storage.insertEnded()
                if number == 0 { (first, id) = (job, job.id) }
            }
            #expect(first == nil)
            let again = try #require(try await storage.jobs.job(id))
            let events = await again.read(after: 0, limit: 10)
            #expect(again.snapshot.status == .succeeded && events?.count == 3)
        }
    }
}
