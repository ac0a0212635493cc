import OrderedCollections
import OrderedJSON
import Synchronization
import Testing

@testable import Bridge

extension Submission {
    static func sample(_ options: Options = Options()) throws -> Submission {
        let graph: JSON = ["1": ["class_type": "EmptyImage", "inputs": [:]], "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0]]]]
        return Submission(workflow: try Workflow(checking: graph), outputNodes: ["2"], options: options)
    }
}

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
        let last = try #require(job.events(after: 0, limit: 100).last)
        guard case .status(.succeeded, _) = last.event else { Issue.record("\(last.event)"); return }
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

    @Test(.timeLimit(.minutes(1))) func waitersReturnAtTheEndOrWhenCancelled() async throws {
        let job = Job(submission: try .sample())
        let patient = Task { await job.waitUntilOver() }
        let impatient = Task { await job.waitUntilOver() }
        impatient.cancel()
        await impatient.value
        #expect(job.status == .queued)
        job.finish(.canceled)
        await patient.value
        await job.waitUntilOver()
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
        #expect(job.countLostRun() == 1)
        #expect(job.snapshot.outputs.isEmpty)
        #expect(job.countLostRun() == 2)
    }
}

@Suite struct JobQueueTests {
    @Test func isFirstComeFirstServedAndBounded() throws {
        let queue = JobQueue(limit: 2)
        let jobs = try (0..<3).map { _ in Job(submission: try .sample()) }
        try queue.add(jobs[0])
        try queue.add(jobs[1])
        #expect(throws: JobQueue.Full.self) { try queue.add(jobs[2]) }
        #expect(jobs.map(\.snapshot.queuePosition) == [0, 1, nil])
        #expect(queue.take(isSecond: false) === jobs[0])
        #expect(jobs[1].snapshot.queuePosition == 0)
        #expect(queue.take(isSecond: false) === jobs[1])
        #expect(queue.take(isSecond: false) == nil)
    }

    @Test func whatIsPutBackIsNextEvenWhenFull() throws {
        let queue = JobQueue(limit: 1)
        let (first, second) = (Job(submission: try .sample()), Job(submission: try .sample()))
        try queue.add(second)
        queue.putBack(first)
        #expect(queue.take(isSecond: false) === first)
        #expect(queue.take(isSecond: false) === second)
    }

    @Test func aSecondJobIsLeftToAnIdleWorker() throws {
        let queue = JobQueue(limit: 9)
        try queue.add(Job(submission: try .sample()))
        let idle = JobQueue(limit: 1)
        queue.setIdle(true, worker: ObjectIdentifier(idle))
        #expect(queue.take(isSecond: true) == nil)
        queue.setIdle(false, worker: ObjectIdentifier(idle))
        #expect(queue.take(isSecond: true) != nil)
    }

    @Test func onlyBlockedJobsFailWhenComfyUIIsAway() throws {
        let queue = JobQueue(limit: 9)
        var options = Submission.Options()
        options.failsWhenUnreachable = true
        let (blocked, patient) = (Job(submission: try .sample(options)), Job(submission: try .sample()))
        try queue.add(blocked)
        try queue.add(patient)
        #expect(queue.removeAll(where: \.submission.options.failsWhenUnreachable).map(\.id) == [blocked.id])
        #expect(patient.snapshot.queuePosition == 0)
        #expect(!queue.remove(blocked))
        #expect(queue.remove(patient))
    }
}

@Suite struct IdempotencyKeysTests {
    @Test func aKeyIsGrantedOnce() {
        let keys = IdempotencyKeys()
        let job = JobID()
        guard case .granted = keys.claim("k", digest: [1]), case .busy = keys.claim("k", digest: [1]) else { Issue.record("not claimed"); return }
        keys.settle("k", job: job)
        guard case .used(job, sameBody: true) = keys.claim("k", digest: [1]), case .used(job, sameBody: false) = keys.claim("k", digest: [2]) else {
            Issue.record("not recognised")
            return
        }
    }

    @Test func aReleasedKeyIsFree() {
        let keys = IdempotencyKeys()
        guard case .granted = keys.claim("k", digest: [1]) else { Issue.record("not claimed"); return }
        keys.release("k")
        guard case .granted = keys.claim("k", digest: [2]) else { Issue.record("not free"); return }
    }
}
