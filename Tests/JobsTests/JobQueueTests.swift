import Testing

@testable import Jobs
@testable import TestSupport

@Suite struct JobQueueTests {
    @Test func isFirstComeFirstServedAndBounded() throws {
        let queue = JobQueue(limit: 2)
        let jobs = try (0..<3).map { _ in Job(submission: try .sample()) }
        try queue.add(jobs[0])
        try queue.add(jobs[1])
        #expect(throws: JobQueue.Full.self) { try queue.add(jobs[2]) }
        #expect(jobs.map(\.snapshot.queuePosition) == [0, 1, nil])
        #expect(queue.take(isSecond: false, by: me) === jobs[0])
        #expect(jobs[1].snapshot.queuePosition == 0)
        #expect(queue.take(isSecond: false, by: me) === jobs[1])
        #expect(queue.take(isSecond: false, by: me) == nil)
    }

    @Test func whatIsPutBackIsNextEvenWhenFull() throws {
        let queue = JobQueue(limit: 1)
        let (first, second) = (Job(submission: try .sample()), Job(submission: try .sample()))
        try queue.add(second)
        queue.putBack(first)
        #expect(queue.take(isSecond: false, by: me) === first)
        #expect(queue.take(isSecond: false, by: me) === second)
    }

    /// What a worker may take, in order: by whether it has a job already, and by what it and an idle other one can run.
    @Test("A job goes to a worker that can run it, and not behind a busy one if another is idle", arguments: [
        (false, [0, 1, 2], nil, [0, 1, 2]), (false, [1], nil, [1]), (false, [], nil, []), (true, [0, 1, 2], nil, [0, 1, 2]), (true, [0, 1, 2], [0, 1, 2], []),
        (true, [0, 1, 2], [1], [0, 2]), (true, [0, 1], [2], [0, 1]), (false, [0, 1, 2], [0, 1, 2], [0, 1, 2]),
    ] as [(Bool, Set<Int>, Set<Int>?, [Int])])
    func classes(_ isSecond: Bool, _ mine: Set<Int>, _ idle: Set<Int>?, _ expected: [Int]) throws {
        let queue = JobQueue(limit: 9)
        let jobs = try (0..<3).map { _ in try job(0) }
        func can(_ which: Set<Int>) -> @Sendable (Job) -> Bool { { job in which.contains { jobs[$0] === job } } }
        let other = ObjectIdentifier(JobQueueTests.self)
        queue.addWorker(.sample(me, canRun: can(mine)))
        queue.addWorker(.sample(other, canRun: can(idle ?? [])))
        queue.setIdle(idle != nil, worker: other)
        for job in jobs { try queue.add(job) }
        var order: [Int] = []
        while let job = queue.take(isSecond: isSecond, by: me) { order += jobs.indices.filter { jobs[$0] === job } }
        #expect(order == expected)
        // Who is left stands as if the others had never been.
        let left = jobs.indices.filter { !expected.contains($0) }
        #expect(left.map { jobs[$0].snapshot.queuePosition } == left.indices.map { $0 })
    }

    @Test("A job is not given to a worker that it should avoid, unless there is no other", arguments: [(true, true, false), (true, false, true), (false, true, true)])
    func avoided(_ avoids: Bool, _ hasOther: Bool, _ isGiven: Bool) throws {
        let queue = JobQueue(limit: 9)
        queue.addWorker(.sample(me, avoids: { _ in avoids }))
        queue.addWorker(.sample(ObjectIdentifier(JobQueueTests.self), isAvailable: { hasOther }))
        let job = try job(0)
        #expect(queue.hasTaker(for: job, beside: me) == hasOther)
        try queue.add(job)
        #expect((queue.take(isSecond: false, by: me) === job) == isGiven)
    }

    @Test func onlyBlockedJobsFailWhenComfyUIIsAway() throws {
        let queue = JobQueue(limit: 9)
        let (blocked, patient) = (Job(submission: try .sample()), Job(submission: try .sample()))
        blocked.attach(.blocks(endsJob: false))
        patient.attach(.isPromised)
        patient.attach(.blocks(endsJob: true))
        try queue.add(blocked)
        try queue.add(patient)
        #expect(queue.removeAll(where: \.failsWhenUnreachable).map(\.id) == [blocked.id])
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

    private let me = ObjectIdentifier(JobQueue.self)

    private func job(_ priority: Int) throws -> Job {
        var options = Submission.Options()
        options.priority = priority
        return Job(submission: try .sample(options))
    }

    private func taken(from queue: JobQueue, of jobs: [Job]) -> [Int] {
        var order: [Int] = []
        while let job = queue.take(isSecond: false, by: me) { order += jobs.indices.filter { jobs[$0] === job } }
        return order
    }
}

extension JobQueue.Taker {
    static func sample(
        _ id: ObjectIdentifier, isAvailable: @escaping @Sendable () -> Bool = { true }, canRun: @escaping @Sendable (Job) -> Bool = { _ in true },
        avoids: @escaping @Sendable (Job) -> Bool = { _ in false }
    ) -> JobQueue.Taker {
        JobQueue.Taker(id: id, notify: {}, isAvailable: isAvailable, canRun: canRun, avoids: avoids)
    }
}
