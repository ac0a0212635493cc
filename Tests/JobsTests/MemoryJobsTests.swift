import Foundation
import OrderedCollections
import OrderedJSON
import Testing

@testable import Jobs
@testable import Store
@testable import TestSupport

/// The list of jobs, page by page.
@Suite struct MemoryJobsTests {
    private func jobs(_ count: Int, into store: MemoryJobs) throws -> [Job] {
        try (0..<count).map { number in
            let job = Job(submission: try .sample(metadata: ["number": JSON(number), "parity": number % 2 == 0 ? "even" : "odd"]))
            store.insert(job)
            return job
        }
    }

    private func ids(_ page: JobPage) -> [JobID] { page.jobs.map(\.id) }

    @Test("Pages hold every job once, newest first", arguments: [(0, 1), (1, 1), (5, 1), (5, 2), (5, 5), (5, 500), (600, 7), (600, 300)])
    func pages(_ count: Int, _ limit: Int) throws {
        let store = MemoryJobs()
        let jobs = try jobs(count, into: store)
        var query = JobQuery()
        query.limit = limit
        var found: [JobID] = []
        repeat {
            let page = store.jobs(query)
            #expect(page.jobs.count == min(limit, count - found.count))
            found += ids(page)
            query.before = page.next
            if page.next == nil { break }
        } while true
        #expect(found == jobs.reversed().map(\.id))
    }

    @Test func whatComesAndGoesMovesNoPage() throws {
        let store = MemoryJobs()
        let old = try jobs(6, into: store)
        var query = JobQuery()
        query.limit = 2
        let first = store.jobs(query)
        #expect(ids(first) == [old[5].id, old[4].id])
        query.before = first.next
        _ = try jobs(3, into: store)
        #expect(ids(store.jobs(query)) == [old[3].id, old[2].id])
        // The job at which the page before ended, and one of the next.
        store.remove(old[4])
        store.remove(old[3])
        #expect(ids(store.jobs(query)) == [old[2].id, old[1].id])
        for job in old.prefix(3) {
            job.finish(.succeeded)
            store.recordEnd(of: job)
        }
        #expect(store.removeEnded(beyond: RetentionLimit(date: .distantPast, count: 1)).map(\.id) == [old[0].id, old[1].id])
        let last = store.jobs(query)
        #expect(ids(last) == [old[2].id])
        #expect(last.next == nil)
    }

    @Test func filtersHoldTogether() throws {
        let store = MemoryJobs()
        let jobs = try jobs(6, into: store)
        jobs[1].started()
        jobs[2].started()
        jobs[3].finish(.failed)
        jobs[4].requestCancel()
        func numbers(_ statuses: Set<JobStatus>?, _ metadata: [Name: String]) -> [Int] {
            var query = JobQuery()
            query.statuses = statuses
            query.metadata = metadata
            return store.jobs(query).jobs.compactMap { $0.metadata?["number"]?.int }
        }
        #expect(numbers([.running], [:]) == [2, 1])
        #expect(numbers([.queued, .failed], [:]) == [5, 3, 0])
        #expect(numbers([.succeeded], [:]) == [])
        #expect(numbers([], [:]) == [])
        #expect(numbers(nil, ["parity": "odd"]) == [5, 3, 1])
        #expect(numbers([.running], ["parity": "odd"]) == [1])
        #expect(numbers(nil, ["parity": "odd", "number": "3"]) == [3])
    }

    @Test(
        "Metadata is compared as text",
        arguments: [
            (#"{"a": "x"}"#, "x", true), (#"{"a": "x"}"#, "X", false), (#"{"a": "x"}"#, "", false), (#"{"a": ""}"#, "", true), (#"{"a": 4711}"#, "4711", true),
            (#"{"a": 4711}"#, "4711.0", false), (#"{"a": true}"#, "true", true), (#"{"a": null}"#, "null", true), (#"{"a": [1, 2]}"#, "[1,2]", true),
            (#"{"a": "4711"}"#, "4711", true), (#"{"b": "x"}"#, "x", false), ("{}", "", false), ("null", "", false),
        ])
    func metadata(_ own: String, _ wanted: String, _ matches: Bool) throws {
        let job = Job(submission: try .sample(metadata: try JSON(parsing: own).object))
        var query = JobQuery()
        query.metadata = ["a": wanted]
        #expect(query.matches(job) == matches)
    }

    @Test func theClockMayBeSetBackAndCursorsOfAFormerProcessPointBeforeEverything() throws {
        let store = MemoryJobs()
        let now = Date()
        let jobs = try [0, -3600, 0].map { Job(submission: try .sample(), createdAt: now.addingTimeInterval($0)) }
        for job in jobs { store.insert(job) }
        #expect(ids(store.jobs(JobQuery())) == jobs.reversed().map(\.id))
        var query = JobQuery()
        query.before = UInt64(now.timeIntervalSince1970 * 1e6) - 1
        #expect(ids(store.jobs(query)).isEmpty)
    }

    @Test func aJobTakenBackIsGoneAndTwiceIsNoHarm() throws {
        let store = MemoryJobs()
        let jobs = try jobs(3, into: store)
        store.remove(jobs[2])
        store.remove(jobs[2])
        #expect(store.job(jobs[2].id) == nil)
        #expect(ids(store.jobs(JobQuery())) == [jobs[1].id, jobs[0].id])
    }
}
