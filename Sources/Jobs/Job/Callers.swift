/// The callers of a job, as far as its fate depends on them.
struct Callers: Sendable, Equatable {
    /// How many block for the job.
    private(set) var blocked = 0
    /// One of them said that the job goes on without it.
    private var outlivesThem = false
    /// Somebody was told that the job goes on.
    private(set) var isPromised = false

    mutating func attach(_ interest: Job.Interest) {
        switch interest {
        case .blocks(let endsJob):
            blocked += 1
            if !endsJob { outlivesThem = true }
        case .isPromised: isPromised = true
        }
    }

    /// A blocked caller has its answer.
    ///
    /// - Parameter isPromised: which says that the job goes on.
    mutating func answered(isPromised: Bool) {
        blocked -= 1
        if isPromised { self.isPromised = true }
    }

    /// A blocked caller went away. Returns whether with it the last one went who wants the job.
    mutating func left() -> Bool {
        blocked -= 1
        return blocked == 0 && !outlivesThem && !isPromised
    }
}

extension Job {
    /// What a caller expects of the job that it submits or attaches to.
    package enum Interest: Sendable, Equatable {
        /// It waits for the end of the job.
        ///
        /// - Parameter endsJob: when it hangs up, and nobody else wants the job, the job is canceled.
        case blocks(endsJob: Bool)
        /// It is told that the job goes on, whoever waits for it.
        case isPromised
    }
}
