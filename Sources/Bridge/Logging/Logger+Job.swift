import Logging

extension Logger.Metadata {
    /// What every line about a job has. ComfyUI's own log knows it by its prompt id, which is the same.
    static func of(_ job: JobID, _ others: Logger.Metadata = [:]) -> Logger.Metadata {
        var metadata = others
        metadata["job.id"] = .string(job.description)
        metadata["prompt.id"] = .string(job.description)
        return metadata
    }

    /// The one line about a job that is over.
    static func end(of job: Job) -> Logger.Metadata {
        let snapshot = job.present
        var metadata: Logger.Metadata = [
            "job.status": .string(snapshot.status.rawValue), "error.code": .string(snapshot.error?.code.rawValue ?? "none"),
            "outputs": .stringConvertible(snapshot.outputs.count),
        ]
        if let endpoint = job.timeline.marks.endpoint { metadata["comfy.url"] = "\(endpoint)" }
        if let time = snapshot.queueTime(since: job.createdAt) { metadata["queue_ms"] = .stringConvertible(time.milliseconds) }
        if let time = snapshot.executionTime { metadata["execution_ms"] = .stringConvertible(time.milliseconds) }
        return of(job.id, metadata)
    }
}

extension Duration {
    /// Whole milliseconds, rounded.
    var milliseconds: Int { Int((seconds * 1000).rounded()) }

    /// For a person: `2.5 s`, `1 min 5 s`, `2 h 1 min`.
    var words: String {
        let tenths = max(0, Int((seconds * 10).rounded()))
        let whole = tenths / 10
        switch whole {
        case ..<60: return "\(whole).\(tenths % 10) s"
        case ..<3600: return "\(whole / 60) min \(whole % 60) s"
        default: return "\(whole / 3600) h \(whole / 60 % 60) min"
        }
    }
}
