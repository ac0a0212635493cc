import Foundation
import OrderedCollections
import OrderedJSON
@testable import Store
import Synchronization
import Testing

@testable import Jobs
@testable import TestSupport

/// Nobody is told what is not on disk, and nothing waits longer than that.
@Suite(.timeLimit(.minutes(5))) struct VisibilityTests {
    private func texts(_ job: Job, after cursor: UInt64 = 0) throws -> [String] {
        try #require(job.events(after: cursor, limit: 100)).map { logged in
            switch logged.event {
            case .preview(let preview): "preview \(preview.number)"
            case .progress(let progress): "progress \(progress.value)"
            default: logged.event.text
            }
        }
    }

    private func output(_ job: Job, _ name: String) -> Output { Output(job: job.id, node: "1", name: name, kind: .text, contentType: "text/plain", blob: Blob(text: name)) }

    @Test func aJobIsNotAcceptedBeforeItIsWritten() async throws {
        try await withStorage { storage, disk in
            let insertions = Counter()
            let submission = try Submission.sample()
            var insertion: Task<Job, any Error>?
            try await whileWriterIsHeld(disk.database) {
                insertion = Task {
                    let job = try await storage.insert(submission)
                    insertions.add()
                    return job
                }
                // Other things go on meanwhile, such as reading.
                for _ in 0..<20 {
                    let found1 = try await disk.count("jobs")
                    #expect(found1 == 0)
                }
                #expect(insertions.value == 0)
            }
            let job = try #require(try await insertion?.value)
            let found2 = try await disk.rows("SELECT id FROM jobs")
            #expect(found2 == [["id": job.id.description]])
        }
    }

    @Test func eventsAreSeenOnceTheyAreWritten() async throws {
        try await withStorage { storage, disk in
            let job = try await storage.insert(try .sample())
            let wakes = Counter()
            let openingOrNil = job.watch(from: .snapshot, wake: { wakes.add() })
            let opening = try #require(openingOrNil)
            #expect(opening.coveredID == 1)
            try await whileWriterIsHeld(disk.database) {
                // Nothing that is written: seen at once.
                _ = job.publish(preview: [1], node: "1", contentType: "image/jpeg")
                #expect(try texts(job, after: opening.cursor) == ["preview 1"])
                #expect(wakes.value == 1)
                // Written ones, and what comes after them, are not.
                job.started()
                job.add(output(job, "a"))
                _ = job.publish(preview: [2], node: "1", contentType: "image/jpeg")
                #expect(try texts(job, after: opening.cursor) == ["preview 1"])
                #expect(wakes.value == 1)
                #expect(job.snapshot.status == .queued && job.snapshot.outputs.isEmpty && job.status == .running)
                #expect(job.latestPreview?.number == 1)
                // Who comes now sees the same, and nothing twice later.
                let lateOrNil = job.watch(from: .snapshot, wake: {})
                let late = try #require(lateOrNil)
                #expect(late.coveredID == 1 && !late.snapshot.contains { if case .output = $0 { true } else { false } })
                #expect(try texts(job, after: late.cursor).isEmpty)
                let replayOrNil = job.watch(from: .after(id: 2), wake: {})
                let replay = try #require(replayOrNil)
                #expect(replay.reset, "an id that nobody has seen")
            }
            await storage.jobs.record(job)
            #expect(try texts(job, after: opening.cursor).suffix(3).map { $0.prefix(9) } == [#"{"status""#, #"{"output""#, "preview 2"])
            #expect(wakes.value > 1)
            #expect(job.snapshot.status == .running && job.snapshot.outputs.map(\.name) == ["a"])
        }
    }

    private final class Requests: JobJournal {
        let areAwaited = Mutex<[Bool]>([])
        let stream: AsyncStream<Bool>
        private let continuation: AsyncStream<Bool>.Continuation

        init() { (stream, continuation) = AsyncStream.makeStream() }

        func enqueue(_ job: any JournaledJob, isAwaited: Bool) { note(isAwaited) }
        func hurry() { note(true) }

        private func note(_ isAwaited: Bool) {
            areAwaited.withLock { $0.append(isAwaited) }
            continuation.yield(isAwaited)
        }
    }

    @Test func itIsWrittenAtOnceForWhoIsThereAndForWhoComesMeanwhile() async throws {
        let requests = Requests()
        func requested() -> [Bool] {
            requests.areAwaited.withLock { areAwaited in
                defer { areAwaited = [] }
                return areAwaited
            }
        }
        let job = Job(submission: try .sample(), journal: requests)
        job.started()
        #expect(requested() == [], "the insertion writes it")
        job.endWriting(job.beginWriting())
        job.publish(.log(LogEntry(.info, "a")))
        job.publish(.log(LogEntry(.info, "b")))
        #expect(requested() == [false])
        let openingOrNil = job.watch(from: .snapshot, wake: {})
        let opening = try #require(openingOrNil)
        #expect(requested() == [true])
        job.publish(.log(LogEntry(.info, "c")))
        #expect(requested() == [], "it is asked for already")
        job.endWriting(job.beginWriting())
        job.publish(.log(LogEntry(.info, "d")))
        #expect(requested() == [true])
        job.endWriting(job.beginWriting())
        job.unwatch(opening.token)
        job.publish(.log(LogEntry(.info, "e")))
        #expect(requested() == [false])
        job.finish(.succeeded)
        #expect(requested() == [true], "the end is not to be found out again")
    }

    @Test func aStatusThatSomebodyComesToWaitForIsWrittenAtOnce() async throws {
        let requests = Requests()
        let job = Job(submission: try .sample(), journal: requests)
        job.endWriting(job.beginWriting())
        job.started()
        async let waiting: Void = job.wait { $0 == .running }
        for await isAwaited in requests.stream where isAwaited { break }
        job.endWriting(job.beginWriting())
        await waiting
        #expect(requests.areAwaited.withLock { $0 } == [false, true])
    }

    @Test func theEndIsToldWhenItIsWritten() async throws {
        try await withStorage { storage, disk in
            let job = try await storage.insert(try .sample())
            var caller: Task<Int, any Error>?
            try await whileWriterIsHeld(disk.database) {
                caller = Task {
                    await job.wait(until: \.isTerminal)
                    // What a caller is told is there for whoever asks afterwards, and after a crash.
                    return try await disk.rows("SELECT id FROM jobs WHERE status = 'succeeded'").count
                }
                job.started()
                job.add(output(job, "a"))
                job.finish(.succeeded)
                #expect(job.snapshot.status == .queued)
            }
            let count = try await caller?.value
            #expect(count == 1)
            let snapshot = job.snapshot
            #expect(snapshot.status == .succeeded && snapshot.outputs.count == 1)
        }
    }

    @Test("Whenever it is written, each viewer sees each id once and in order", arguments: 0..<8)
    func orders(_ seed: Int) async throws {
        try await withStorage { storage, _ in
            let job = try await storage.insert(try .sample())
            let end = 200
            async let seen = withThrowingTaskGroup(of: [UInt64].self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        let (wakes, wake) = AsyncStream.makeStream(of: Void.self)
                        let openingOrNil = job.watch(from: .snapshot, wake: { wake.yield() })
                        let opening = try #require(openingOrNil)
                        var ids = Array(1...(opening.coveredID ?? 0))
                        var cursor = opening.cursor
                        wake.yield()
                        for await _ in wakes {
                            while let events = job.events(after: cursor, limit: 3), let last = events.last {
                                cursor = last.sequence
                                ids += events.compactMap(\.id)
                            }
                            if ids.last == UInt64(end) { break }
                        }
                        return ids
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            for number in 2..<end {
                if (number + seed) % 3 == 0 { job.publish(.progress(JobProgress(value: Double(number), nodesDone: 0, nodesTotal: 1))) }
                job.publish(.log(LogEntry(.info, "\(number)")))
                if (number * (seed + 1)) % 7 == 0 { await storage.jobs.record(job) }
                if number % 10 == seed { await Task.yield() }
            }
            job.finish(.succeeded)
            for ids in try await seen { #expect(ids == Array(1...UInt64(end))) }
        }
    }
}
