import Testing

@testable import Bridge

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

    @Test("Higher priorities go first, equal ones in order of arrival", arguments: [
        ([0, 0, 0], [0, 1, 2]), ([0, 5, 0], [1, 0, 2]), ([-1, 0, 1], [2, 1, 0]), ([3, 1, 3, 1, 2], [0, 2, 4, 1, 3]), ([-100, 100, -100, 100], [1, 3, 0, 2]),
    ])
    func order(_ priorities: [Int], _ expected: [Int]) throws {
        let queue = JobQueue(limit: 9)
        let jobs = try priorities.map(job)
        for job in jobs { try queue.add(job) }
        // Where each of them stands, the one that arrived first first.
        #expect(jobs.map(\.snapshot.queuePosition) == jobs.indices.map { expected.firstIndex(of: $0) })
        #expect(taken(from: queue, of: jobs) == expected)
    }

    @Test("What is put back is the next of its priority", arguments: [(5, [3, 0, 1, 2]), (0, [0, 3, 1, 2]), (-5, [0, 1, 2, 3])])
    func putBack(_ priority: Int, _ expected: [Int]) throws {
        let queue = JobQueue(limit: 3)
        let jobs = try [5, 0, 0].map(job) + [try job(priority)]
        for job in jobs.prefix(3) { try queue.add(job) }
        queue.putBack(jobs[3])
        #expect(taken(from: queue, of: jobs) == expected)
    }

    private func job(_ priority: Int) throws -> Job {
        var options = Submission.Options()
        options.priority = priority
        return Job(submission: try .sample(options))
    }

    private func taken(from queue: JobQueue, of jobs: [Job]) -> [Int] {
        var order: [Int] = []
        while let job = queue.take(isSecond: false) { order += jobs.indices.filter { jobs[$0] === job } }
        return order
    }
}
