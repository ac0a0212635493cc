import OrderedCollections
import OrderedJSON

/// Which jobs are listed.
struct JobQuery: Sendable {
    /// Nil for every status. A job may have gone on by the time its caller looks at it.
    var statuses: Set<JobStatus>?
    /// What the job's metadata must have under each name: this text, or a value with this JSON text.
    var metadata: [Name: String] = [:]
    var limit = 50
    /// Only jobs submitted before this place in the order of submissions.
    var before: UInt64?

    func matches(_ job: Job) -> Bool {
        if let statuses, !statuses.contains(job.snapshot.status) { return false }
        guard !metadata.isEmpty else { return true }
        guard let own = job.metadata else { return false }
        return metadata.allSatisfy { name, wanted in own[name.text].map { ($0.string ?? $0.text).hasSameBytes(as: wanted) } ?? false }
    }
}

/// Jobs, the one submitted last first.
struct JobPage: Sendable {
    var jobs: [Job] = []
    /// The place of the last job, to go on before; nil when no more jobs match. Places belong to submissions, not to the list: what
    /// is added or removed meanwhile moves none, and after a restart they still mean the same.
    var next: UInt64?
}
