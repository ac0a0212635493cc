import Dispatch
import Foundation
import Logging
import OrderedCollections
import OrderedJSON
import Synchronization
import Testing

@testable import Jobs
@testable import TestSupport
@testable import Workflow

/// What the objects of a store are to it, with a store that is neither SQLite nor knows a job: it has values, and its disk fails when the test says so.
@Suite(.timeLimit(.minutes(5))) struct StoredJobsTests {
    private final class Values: JobStore {
        struct Row: Sendable {
            var new: NewJob
            var snapshot: Job.Snapshot
            var events: [LoggedEvent]
        }

        struct Refusal: Error {}

        struct State {
            var rows: [JobID: Row] = [:]
            var isFull = false
            var areHeld = false
            var held: [@Sendable () -> Void] = []
            var writes = 0
        }

        let state = Mutex(State())

        var lastPlace: UInt64 { 0 }
        var failure: String? { state.withLock { $0.isFull } ? "full" : nil }
        func probe() async {}
        func hurry() {}

        func insert(_ job: NewJob, key: UsedKey?) async throws {
            try state.withLock { state in
                guard !state.isFull else { throw Refusal() }
                state.rows[job.id] = Row(new: job, snapshot: job.unwritten.snapshot, events: job.unwritten.events)
            }
        }

        func write(isAwaited: Bool, _ change: @escaping @Sendable () -> JobChange?, end: @escaping @Sendable ((any Error)?) -> Void) {
            let write = { @Sendable in
                let change = change()
                let isFull = self.state.withLock { state in
                    state.writes += 1
                    guard !state.isFull else { return true }
                    if let change, let id = state.rows.first(where: { $0.value.new.place == change.place })?.key {
                        state.rows[id]?.snapshot = change.unwritten.snapshot
                        state.rows[id]?.events += change.unwritten.events
                    }
                    return false
                }
                end(isFull ? Refusal() : nil)
            }
            let isHeld = state.withLock { state in
                if state.areHeld { state.held.append(write) }
                return state.areHeld
            }
            if !isHeld { DispatchQueue.global().async { write() } }
        }

        func remove(_ id: JobID) async throws { state.withLock { _ = $0.rows.removeValue(forKey: id) } }

        private func stored(_ row: Row) -> StoredJob {
            StoredJob(
                id: row.new.id, createdAt: row.new.createdAt, submission: row.new.submission, snapshot: row.snapshot, firstEventID: 1,
                lastEventID: row.events.last?.id ?? 0)
        }

        func removeEnded(beyond limit: RetentionLimit) async throws -> [StoredJob] {
            state.withLock { state in
                let ended = state.rows.values.filter { $0.snapshot.completedAt.map { $0 < limit.date } ?? false }
                for row in ended { state.rows[row.new.id] = nil }
                return ended.map(stored)
            }
        }

        func job(_ id: JobID) async throws -> StoredJob? { state.withLock { $0.rows[id] }.map(stored) }
        func workflow(of id: JobID) async throws -> [UInt8] { state.withLock { $0.rows[id] }?.new.submission.workflow.text ?? [] }

        func jobs(_ statuses: Set<JobStatus>?, before place: UInt64, limit: Int) async throws -> [(place: UInt64, job: StoredJob?)] {
            let rows = state.withLock { $0.rows.values.filter { $0.new.place < place && statuses?.contains($0.snapshot.status) ?? true } }
            return rows.sorted { $0.new.place > $1.new.place }.prefix(limit).map { ($0.new.place, stored($0)) }
        }

        func openJobs() async throws -> [(place: UInt64, job: StoredJob)] {
            let rows = state.withLock { $0.rows.values.filter { !$0.snapshot.status.isTerminal } }
            return rows.sorted { $0.new.place < $1.new.place }.map { ($0.new.place, stored($0)) }
        }

        func read(eventsOf job: JobID, after id: UInt64, limit: Int, _ completion: @escaping @Sendable ([LoggedEvent]?) -> Void) {
            completion(state.withLock { $0.rows[job]?.events.filter { $0.sequence > id } }?.prefix(limit).map { $0 })
        }
    }

    private func insert(into jobs: StoredJobs) async throws -> Job {
        let job = Job(submission: try .sample(), journal: jobs.journal)
        try await jobs.insert(job, key: nil)
        return job
    }

    private func configuration(recent: Int = 256) -> StoredJobs.Configuration {
        var configuration = StoredJobs.Configuration()
        configuration.recentJobs = recent
        return configuration
    }

    @Test func oneIdIsOneObjectForAsLongAsSomebodyHasIt() async throws {
        let store = Values()
        let ids = Mutex<[JobID]>([])
        let jobs = StoredJobs(store, configuration: configuration(recent: 1), logger: .errorsOnly)
        func end() async throws {
            let job = try await insert(into: jobs)
            let same = try await jobs.job(job.id)
            #expect(same === job)
            job.started()
            job.finish(.succeeded)
            await jobs.record(job)
            await jobs.recordEnd(of: job)
            ids.withLock { $0.append(job.id) }
        }
        try await end()
        try await end()
        // The second pushed the first out of the memory; asked for again it is another object, and then that one.
        let first = try #require(ids.withLock { $0.first })
        #expect(jobs.present(first) == nil)
        let read = try #require(try await jobs.job(first))
        let again = try await jobs.job(first)
        #expect(read === again && read.snapshot.status == .succeeded)
        #expect(await read.read(after: 0, limit: 10)?.compactMap(\.id) == [1, 2, 3])
        let listed = try await jobs.jobs(JobQuery()).jobs
        #expect(listed.map(\.id) == ids.withLock { $0.reversed() } && listed.last === read)
        let removed = try await jobs.removeEnded(beyond: RetentionLimit(date: .distantFuture))
        let gone = try await jobs.job(first)
        #expect(Set(removed.map(\.id)) == Set(ids.withLock { $0 }) && gone == nil)
    }

    @Test func whatIsHeldUpIsWrittenAsItIsWhenItsTurnComes() async throws {
        let store = Values()
        let jobs = StoredJobs(store, configuration: configuration(), logger: .errorsOnly)
        let job = try await insert(into: jobs)
        store.state.withLock { $0.areHeld = true }
        job.started()
        job.publish(.log(LogEntry(.info, "a")))
        job.publish(.log(LogEntry(.info, "b")))
        let held = store.state.withLock { state in
            defer { (state.areHeld, state.held) = (false, []) }
            return state.held
        }
        #expect(held.count == 1, "one write for all that happened")
        #expect(job.snapshot.status == .queued)
        for write in held { write() }
        #expect(job.snapshot.status == .running && store.state.withLock { $0.rows[job.id]?.events.count } == 4)
    }

    @Test func whatCannotBeWrittenIsSeenAndTriedAgain() async throws {
        let store = Values()
        let jobs = StoredJobs(store, configuration: configuration(), logger: .errorsOnly)
        let job = try await insert(into: jobs)
        store.state.withLock { $0.isFull = true }
        job.started()
        job.finish(.succeeded)
        await jobs.record(job)
        #expect(job.snapshot.status == .succeeded && store.state.withLock { $0.rows[job.id]?.snapshot.status } == .queued)
        await jobs.retry()
        #expect(jobs.present(job.id) === job, "it stays in memory until it is written")
        store.state.withLock { $0.isFull = false }
        await jobs.retry()
        #expect(store.state.withLock { $0.rows[job.id]?.snapshot.status } == .succeeded)
        #expect(store.state.withLock { $0.rows[job.id]?.events.compactMap(\.id) } == [1, 2, 3])
    }

    @Test func aJobThatCouldNotBeInsertedWasNeverThere() async throws {
        let store = Values()
        let jobs = StoredJobs(store, configuration: configuration(), logger: .errorsOnly)
        store.state.withLock { $0.isFull = true }
        let job = Job(submission: try .sample(), journal: jobs.journal)
        await #expect(throws: Values.Refusal.self) { try await jobs.insert(job, key: nil) }
        #expect(jobs.present(job.id) == nil)
    }

    @Test func openJobsAreTakenUpInTheirOrder() async throws {
        let store = Values()
        let before = StoredJobs(store, configuration: configuration(), logger: .errorsOnly)
        var ids: [JobID] = []
        for number in 0..<5 {
            let job = try await insert(into: before)
            if number == 2 {
                job.finish(.failed)
                await before.record(job)
            } else {
                ids.append(job.id)
            }
        }
        let after = StoredJobs(store, configuration: configuration(), logger: .errorsOnly)
        let open = try await after.restore()
        #expect(open.map(\.id) == ids)
        let same = try await after.job(ids[0])
        #expect(same === open[0])
    }
}
