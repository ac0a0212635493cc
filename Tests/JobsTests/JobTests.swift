import Foundation
import OrderedCollections
import OrderedJSON
import Synchronization
import Testing

@testable import Jobs
@testable import TestSupport
@testable import Workflow

/// Counts calls from any thread.
final class Counter: Sendable {
    private let count = Mutex(0)
    func add() { count.withLock { $0 += 1 } }
    var value: Int { count.withLock { $0 } }
}

@Suite struct JobTests {
    private func output(_ job: Job, _ name: String) -> Output {
        Output(job: job.id, node: "2", name: name, kind: .text, contentType: "text/plain", blob: Blob(text: "x"))
    }

    @Test func outputsComeBeforeTheTerminalStatusAndNothingAfterIt() throws {
        let job = Job(submission: try .sample())
        job.started()
        job.add(output(job, "a"))
        #expect(job.finish(.succeeded))
        #expect(!job.finish(.failed))
        job.add(output(job, "late"))
        job.publish(.log(LogEntry(.info, "late")))
        #expect(job.snapshot.outputs.map(\.name) == ["a"])
        #expect(job.snapshot.status == .succeeded)
        let last = try #require(job.events(after: 0, limit: 100)?.last)
        guard case .status(.succeeded, _) = last.event else { Issue.record("\(last.event)"); return }
    }

    /// `b`: comes and blocks, and its leaving may end the job. `o`: blocks, and the job outlives it. `p`: was told that the job goes on. `l`: a blocked
    /// one leaves. `d`: a blocked one has its answer. `e`: the same, and was told that the job goes on. `c`: somebody cancels.
    @Test(
        "When a caller that leaves takes the job along, and when ComfyUI's absence ends it",
        arguments: [
            ("bl", true, false), ("bbl", false, true), ("bbll", true, false), ("ol", false, false), ("bol", false, true), ("boll", false, false), ("pbl", false, false),
            ("bpl", false, false), ("bd", false, false), ("bbel", false, false), ("bbdl", true, false), ("b", false, true), ("o", false, true), ("p", false, false),
            ("pb", false, false), ("bcl", false, false), ("", false, false),
        ])
    func callers(_ steps: String, _ isAbandoned: Bool, _ failsWhenUnreachable: Bool) throws {
        let job = Job(submission: try .sample())
        var left: [Bool] = []
        for step in steps {
            switch step {
            case "b": #expect(job.attach(.blocks(endsJob: true)))
            case "o": #expect(job.attach(.blocks(endsJob: false)))
            case "p": #expect(job.attach(.isPromised))
            case "l": left.append(job.callerLeft())
            case "d": job.detachCaller()
            case "e": job.detachCaller(isPromised: true)
            default: job.cancellationRequested()
            }
        }
        #expect(left.last ?? false == isAbandoned && !left.dropLast().contains(true))
        #expect(job.failsWhenUnreachable == failsWhenUnreachable)
        // Who comes now, comes too late for a job that was given up.
        #expect(job.attach(.isPromised) == !isAbandoned && job.releasesKey == isAbandoned)
    }

    @Test func callersThatAreTurnedAwayLeaveOthersWaiting() async throws {
        let job = Job(submission: try .sample())
        let viewer = Counter()
        // Each is asked once when it comes, and waits from then on.
        let (comings, coming) = AsyncStream.makeStream(of: Void.self)
        let isWanted: @Sendable (JobStatus) -> Bool = { status in
            coming.yield()
            return status.isTerminal
        }
        async let called: Void = job.wait(atMost: .seconds(600), isCaller: true, until: isWanted)
        async let viewed: Void = {
            await job.wait(until: isWanted)
            viewer.add()
        }()
        var waiting = comings.makeAsyncIterator()
        for _ in 1...2 { _ = await waiting.next() }
        job.turnAwayCallers()
        await called
        #expect(viewer.value == 0)
        job.finish(.succeeded)
        await viewed
    }

    @Test func openingOfAFinishedJobEndsWithItsStatus() throws {
        let job = Job(submission: try .sample())
        job.started()
        job.add(output(job, "a"))
        job.finish(.succeeded)
        let watched = job.watch(from: .snapshot, wake: {})
        let opening = try #require(watched)
        #expect(opening.coveredID == 4)  // queued, running, output, succeeded
        guard case .output? = opening.snapshot.first, case .status(.succeeded, _)? = opening.snapshot.last else {
            Issue.record("\(opening.snapshot)")
            return
        }
    }

    @Test func whoHasSeenTheEndIsNotServedAgain() throws {
        let job = Job(submission: try .sample())
        job.finish(.succeeded)
        let openings = [2, 1, 99].map { job.watch(from: .after(id: $0), wake: {}) }
        #expect(openings.map { $0?.reset } == [nil, false, true])
    }

    @Test func viewersAreWokenUntilTheyLeave() throws {
        let job = Job(submission: try .sample())
        let wakes = Counter()
        let watched = job.watch(from: .snapshot, wake: { wakes.add() })
        let opening = try #require(watched)
        job.publish(.log(LogEntry(.info, "a")))
        #expect(wakes.value == 1)
        job.unwatch(opening.token)
        job.publish(.log(LogEntry(.info, "b")))
        #expect(wakes.value == 1)
    }

    private let progress = JobEvent.progress(JobProgress(value: 0.5, nodesDone: 1, nodesTotal: 2))

    @Test("Viewers are told of progress together with what comes behind it", arguments: ["preview", "status", "native"])
    func progressWaits(_ companion: String) throws {
        let job = Job(submission: try .sample(), timers: ManualTimers())
        let wakes = Counter()
        let watched = job.watch(from: .snapshot, wake: { wakes.add() })
        let cursor = try #require(watched).cursor
        job.publish(progress)
        job.publish(progress)
        #expect(wakes.value == 0)
        switch companion {
        case "preview": _ = job.publish(preview: [1], node: "2", contentType: "image/png")
        case "status": job.finish(.succeeded)
        default: job.publish(.comfyui(raw: "{}"))
        }
        #expect(wakes.value == 1)
        #expect(job.events(after: cursor, limit: 10)?.map(\.sequence) == [3, 4])
        guard companion != "status" else { return }
        job.publish(progress)
        job.publish(.log(LogEntry(.info, "a")))
        #expect(wakes.value == 2)
    }

    @Test(.timeLimit(.minutes(5))) func progressAloneDoesNotWaitForLong() async throws {
        let job = Job(submission: try .sample())
        let (wakes, continuation) = AsyncStream.makeStream(of: Void.self)
        let watched = job.watch(from: .snapshot, wake: { continuation.yield() })
        let cursor = try #require(watched).cursor
        var woken = wakes.makeAsyncIterator()
        for sequence in UInt64(2)...4 {
            job.publish(progress)
            await woken.next()
            #expect(job.events(after: cursor, limit: 10)?.map(\.sequence) == [sequence])
        }
    }

    @Test func progressBehindWhatIsBeingWrittenIsToldOfWithIt() throws {
        let job = Job(submission: try .sample(), timers: ManualTimers(), journal: IdleJournal())
        job.endWriting(job.beginWriting())
        let wakes = Counter()
        let watched = job.watch(from: .snapshot, wake: { wakes.add() })
        let cursor = try #require(watched).cursor
        job.started()
        job.publish(progress)
        #expect(wakes.value == 0)
        job.endWriting(job.beginWriting())
        #expect(wakes.value == 1)
        #expect(job.events(after: cursor, limit: 10)?.map(\.sequence) == [2, 3])
    }

    @Test(.timeLimit(.minutes(5))) func waitersReturnAtTheEndOrWhenCancelled() async throws {
        let job = Job(submission: try .sample())
        let patient = Task { await job.wait(until: \.isTerminal) }
        let impatient = Task { await job.wait(until: \.isTerminal) }
        impatient.cancel()
        await impatient.value
        #expect(job.status == .queued)
        job.finish(.canceled)
        await patient.value
        await job.wait(until: { _ in false })
    }

    /// What a waiter is asked about, in order: its job's status when it comes, then every other one, and nothing else.
    @Test(.timeLimit(.minutes(5))) func waitersAreAskedAboutEveryChangeOfTheStatusOnly() async throws {
        let job = Job(submission: try .sample())
        let asked = Mutex<[JobStatus]>([])
        let (comings, coming) = AsyncStream.makeStream(of: Void.self)
        let waiter = Task {
            await job.wait { status in
                asked.withLock { $0.append(status) }
                coming.finish()
                return status == .canceling
            }
        }
        for await _ in comings {}
        job.moved(to: QueuePlace(position: 3, version: 1))
        job.publish(.log(LogEntry(.info, "a")))
        job.started()
        job.add(output(job, "a"))
        #expect(asked.withLock { $0 } == [.queued, .running])
        job.requestCancel()
        await waiter.value
        #expect(asked.withLock { $0 } == [.queued, .running, .canceling])
    }

    @Test(.timeLimit(.minutes(5)), arguments: [Duration.zero, .milliseconds(1)]) func aWaitHasALimit(_ limit: Duration) async throws {
        let job = Job(submission: try .sample())
        await job.wait(atMost: limit) { _ in false }
        #expect(job.status == .queued)
        let waiter = Task { await job.wait(atMost: .seconds(3600)) { $0 == .running } }
        job.started()
        await waiter.value
    }

    @Test func theTimeOfTheLastChangeIsTheStatussOwn() throws {
        let job = Job(submission: try .sample(), createdAt: Date(timeIntervalSince1970: 1))
        #expect(job.snapshot.statusChangedAt == job.createdAt)
        job.moved(to: QueuePlace(position: 3, version: 1))
        #expect(job.snapshot.statusChangedAt == job.createdAt)
        job.started()
        #expect(job.snapshot.statusChangedAt == job.snapshot.startedAt)
        job.requestCancel()
        #expect(job.snapshot.statusChangedAt >= job.snapshot.startedAt ?? .distantFuture)
        job.finish(.canceled)
        #expect(job.snapshot.statusChangedAt == job.snapshot.completedAt)
    }

    @Test func anEndedJobKeepsItsTextAndNoSecret() throws {
        let sample = try Submission.sample()
        let job = Job(submission: Submission(workflow: sample.workflow, outputNodes: ["2"], extraData: ["api_key_comfy_org": "secret"], metadata: ["a": 1]))
        #expect(job.submission.extraData["api_key_comfy_org"] == "secret")
        job.finish(.succeeded)
        #expect(job.submission.extraData.isEmpty)
        #expect(job.submission.workflow.nodes.isEmpty)
        #expect(job.submission.workflow.text == sample.workflow.text)
        #expect(job.submission.metadata == ["a": 1])
    }

    @Test func aCanceledJobIsNotTaken() throws {
        let job = Job(submission: try .sample())
        job.requestCancel()
        #expect(job.status == .canceling)
        let isTaken = job.taken(cancelHandler: {})
        #expect(!isTaken)
    }

    @Test func theWorkerHearsOfACancelRequestOnce() throws {
        let job = Job(submission: try .sample())
        let requests = Counter()
        let isTaken = job.taken(cancelHandler: { requests.add() })
        #expect(isTaken)
        job.requestCancel()
        job.requestCancel()
        #expect(requests.value == 1)
    }

    @Test func whatALostRunMadeDoesNotCount() throws {
        let job = Job(submission: try .sample())
        job.add(output(job, "orphan"))
        job.markReusedOutputs()
        #expect(job.snapshot.hasReusedOutputs)
        #expect(job.endAttempt { $0.lost += 1 }.lost == 1)
        job.returned()
        #expect(job.snapshot.outputs.isEmpty)
        #expect(!job.snapshot.hasReusedOutputs)
        let attempts = job.endAttempt { $0.lost += 1 }
        #expect(attempts.lost == 2)
    }
}
