import Foundation
import Logging
import DequeModule
import ServiceLifecycle
import Synchronization

/// The front door to jobs: submit, find, cancel; and the clean-up behind them.
final class JobService: Service {
    struct Configuration: Sendable {
        var queueLimit = 256
        /// How long an ended job can be asked for.
        var retention = Duration.seconds(24 * 60 * 60)
        /// How many ended jobs can be asked for at most.
        var retainedJobs = 10_000
        /// Previews of ended jobs that are kept, in bytes over all jobs; the oldest go first.
        var retainedPreviewBytes = 64 << 20
        /// Newest previews that a running job keeps.
        var previewHistory = 16

        init() {}
    }

    enum SubmitError: Error {
        case queueFull(limit: Int)
        case shuttingDown
    }

    let queue: JobQueue
    let store: any JobStore
    private let configuration: Configuration
    let assets: AssetService
    let metrics: Metrics
    private let previewFiles: PreviewFiles?
    private let logger: Logger
    private let previewsOfEnded = Mutex<(jobs: Deque<(job: Job, bytes: Int)>, total: Int)>(([], 0))

    init(configuration: Configuration, store: any JobStore, assets: AssetService, previewFiles: PreviewFiles?, metrics: Metrics = Metrics(), logger: Logger) {
        self.configuration = configuration
        self.store = store
        self.assets = assets
        self.previewFiles = previewFiles
        self.metrics = metrics
        self.logger = logger
        queue = JobQueue(limit: configuration.queueLimit)
    }

    /// How long jobs are kept after their end, for `expires_at`.
    var retention: Duration { configuration.retention }

    /// Stores a job and puts it into the queue.
    func submit(_ submission: Submission) async throws -> Job {
        let job = Job(submission: submission, previewLimit: configuration.previewHistory)
        try await store.insert(job)
        do {
            try queue.add(job)
        } catch {
            try await store.remove(job)
            throw SubmitError.queueFull(limit: error.limit)
        }
        metrics.submitted.add()
        logger.debug("job queued", metadata: .of(job.id))
        return job
    }

    func job(_ id: JobID) async throws -> Job? { try await store.job(id) }
    func jobs(_ query: JobQuery) async throws -> JobPage { try await store.jobs(query) }

    /// Cancels a job wherever it is: at once in the queue, through its worker inside ComfyUI. Does nothing to an ended one.
    func cancel(_ job: Job) async {
        if queue.remove(job) {
            await end(job, .canceled, error: JobError(code: .canceled, message: "The job was canceled before it ran."))
        } else {
            job.requestCancel()
        }
    }

    /// Notes which ComfyUI is given the job, before it is.
    func assign(_ job: Job, to endpoint: String) async {
        job.assign(to: endpoint)
    }

    /// Puts a job back that a ComfyUI was given in vain; it is the next of its priority. What the run made does not count, since it will be made again.
    func putBack(_ job: Job) async {
        job.returned()
        queue.putBack(job)
    }

    /// Ends a job. All ends come through here.
    func end(_ job: Job, _ status: JobStatus, error: JobError? = nil) async {
        guard job.finish(status, error: error) else { return }
        do { try await store.recordEnd(of: job) } catch {
            logger.error("the end of a job could not be stored", metadata: .of(job.id, ["error": "\(error)"]))
        }
        metrics.ended(job)
        logger.info("job ended", metadata: .end(of: job))
        limitPreviews(adding: job)
    }

    /// Ends the queued jobs that somebody blocks for, because no ComfyUI can be reached; the others wait on.
    func failBlockedJobs(_ error: JobError) async {
        for job in queue.removeAll(where: \.submission.options.failsWhenUnreachable) { await end(job, .failed, error: error) }
    }

    /// Removes expired jobs until shut down.
    func run() async throws {
        try await repeating(every: .seconds(30)) {
            let oldest = Date(timeIntervalSinceNow: -self.configuration.retention.seconds)
            let expired = try await self.store.removeEnded(before: oldest, keeping: self.configuration.retainedJobs)
            for job in expired {
                try await self.assets.remove(outputsOf: job)
                await self.previewFiles?.remove(of: job.id)
            }
        }
    }

    private func limitPreviews(adding job: Job) {
        let bytes = job.previewBytes
        guard bytes > 0 else { return }
        let dropped = previewsOfEnded.withLock { kept -> [Job] in
            kept.jobs.append((job, bytes))
            kept.total += bytes
            var dropped: [Job] = []
            while kept.total > configuration.retainedPreviewBytes, let oldest = kept.jobs.popFirst() {
                kept.total -= oldest.bytes
                dropped.append(oldest.job)
            }
            return dropped
        }
        for job in dropped { job.dropPreviews() }
    }
}

extension Duration {
    /// The duration in seconds, for Foundation's interfaces.
    var seconds: TimeInterval {
        TimeInterval(components.seconds) + TimeInterval(components.attoseconds) * 1e-18
    }
}
