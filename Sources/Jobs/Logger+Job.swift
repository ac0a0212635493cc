package import Logging
import Wording

extension Logger.Metadata {
    /// What every line about a job has. ComfyUI's own log knows it by its prompt id, which is the same.
    package static func of(_ job: JobID, _ others: Logger.Metadata = [:]) -> Logger.Metadata {
        var metadata = others
        metadata["job.id"] = .string(job.description)
        metadata["prompt.id"] = .string(job.description)
        return metadata
    }

    /// The one line about a job that is over.
    package static func end(of job: Job) -> Logger.Metadata {
        let snapshot = job.current
        var metadata: Logger.Metadata = [
            "job.status": .string(snapshot.status.rawValue), "error.code": .string(snapshot.error?.code.rawValue ?? "none"),
            "outputs": .stringConvertible(snapshot.outputs.count),
        ]
        if let endpoint = job.timeline.marks.endpoint { metadata["comfy.url"] = .string(endpoint) }
        if let time = snapshot.queueTime(since: job.createdAt) { metadata["queue_ms"] = .stringConvertible(time.milliseconds) }
        if let time = snapshot.executionTime { metadata["execution_ms"] = .stringConvertible(time.milliseconds) }
        return of(job.id, metadata)
    }
}
