import OrderedCollections
package import OrderedJSON

/// Which jobs are listed.
package struct JobQuery: Sendable {
    /// Nil for every status. A job may have gone on by the time its caller looks at it.
    package var statuses: Set<JobStatus>?
    /// What the job's metadata must have under each name: this text, or a value with this JSON text.
    package var metadata: [Name: String] = [:]
    package var limit = 50
    /// Only jobs submitted before this place in the order of submissions.
    package var before: UInt64?

    package init(statuses: Set<JobStatus>? = nil, metadata: [Name: String] = [:], limit: Int = 50, before: UInt64? = nil) {
        self.statuses = statuses
        self.metadata = metadata
        self.limit = limit
        self.before = before
    }

    package func matches(_ job: Job) -> Bool {
        if let statuses, !statuses.contains(job.snapshot.status) { return false }
        guard !metadata.isEmpty else { return true }
        guard let own = job.metadata else { return false }
        return metadata.allSatisfy { name, wanted in own[name.text].map { ($0.string ?? $0.text).hasSameBytes(as: wanted) } ?? false }
    }
}

/// Jobs, the one submitted last first.
package struct JobPage: Sendable {
    package var jobs: [Job] = []
    /// The place of the last job, to go on before; nil when no more jobs match. Places belong to submissions, not to the list: what
    /// is added or removed meanwhile moves none, and after a restart they still mean the same.
    package var next: UInt64?

    package init(jobs: [Job] = [], next: UInt64? = nil) {
        self.jobs = jobs
        self.next = next
    }
}
