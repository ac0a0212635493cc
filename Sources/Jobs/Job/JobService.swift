import DequeModule
import FoundationEssentials
package import Logging
import OrderedCollections
import ServiceLifecycle
import Synchronization
import Wording
import Workflow

/// The front door to jobs: submit, find, cancel; and the clean-up behind them.
package final class JobService: Service {
    package struct Configuration: Sendable {
        package var queueLimit = 256
        /// How long an ended job can be asked for.
        package var retention = Duration.seconds(24 * 60 * 60)
        /// How many ended jobs can be asked for at most.
        package var retainedJobs = 10_000
        /// Bytes of what is on disk of jobs; nil is unlimited.
        package var retainedBytes: Int? = nil
        /// Previews of ended jobs that are kept, in bytes over all jobs; the oldest go first.
        var retainedPreviewBytes = 64 << 20
        /// Newest previews that a running job keeps.
        package var previewHistory = 16

        package init() {}
    }

    package enum SubmitError: Error {
        case queueFull(limit: Int)
        case shuttingDown
    }

    package let queue: JobQueue
    package let store: any JobDirectory
    package let keys: IdempotencyKeys
    private let configuration: Configuration
    package let assets: AssetService
    private let metrics: Metrics
    private let previewFiles: (any PreviewFileStore)?
    private let logger: Logger
    /// The newest ended jobs, whose viewers may still be reading: what is made for them is larger than the previews themselves.
    private static let livelyJobs = 8
    private let previewsOfEnded = Mutex<(jobs: Deque<(job: Job, bytes: Int)>, total: Int)>(([], 0))

    package init(
        configuration: Configuration, store: any JobDirectory, keys: IdempotencyKeys = IdempotencyKeys(.job, store: nil), assets: AssetService,
        previewFiles: (any PreviewFileStore)?, metrics: Metrics, logger: Logger
    ) {
        self.configuration = configuration
        self.store = store
        self.keys = keys
        self.assets = assets
        self.previewFiles = previewFiles
        self.metrics = metrics
        self.logger = logger
        queue = JobQueue(limit: configuration.queueLimit)
    }

    /// How long jobs are kept after their end, for `expires_at`.
    package var retention: Duration { configuration.retention }

    /// Stores a job and puts it into the queue.
    ///
    /// - Parameter key: the `Idempotency-Key` that the job uses up.
    package func submit(_ submission: Submission, _ interest: Job.Interest = .isPromised, key: UsedKey? = nil) async throws -> Job {
        // So that callers who are refused cost no writing; those who come at the same moment are told by `add`.
        guard queue.count < queue.limit else { throw SubmitError.queueFull(limit: queue.limit) }
        let job = Job(submission: submission, previewLimit: configuration.previewHistory, journal: store.journal)
        // Before anybody finds it, so that the queue knows of every viewer.
        job.setQueue(queue)
        job.attach(interest)
        try await store.insert(job, key: key)
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

    package func job(_ id: JobID) async throws -> Job? { try await store.job(id) }
    package func jobs(_ query: JobQuery) async throws -> JobPage { try await store.jobs(query) }

    /// Cancels a job wherever it is: at once in the queue, through its worker inside ComfyUI. Does nothing to an ended one.
    package func cancel(_ job: Job) async {
        job.cancellationRequested()
        await stop(job)
    }

    /// A blocked caller of the job went away; when nobody is left who wants the job, it is canceled.
    package func callerLeft(_ job: Job) async {
        if job.callerLeft() { await stop(job) }
    }

    private func stop(_ job: Job) async {
        if queue.remove(job) {
            await end(job, .canceled, error: JobError(code: .canceled, message: "The job was canceled before it ran."))
        } else {
            job.requestCancel()
        }
        await store.record(job)
    }

    /// The job is about to be given to this ComfyUI. Returns when that is on disk: whatever happens to the bridge, it will look there first.
    package func assign(_ job: Job, to endpoint: String) async {
        job.assign(to: endpoint)
        await store.record(job)
    }

    /// Puts a job back that a ComfyUI was given in vain; it is the next of its priority. What the run made does not count, since it will be made again.
    package func putBack(_ job: Job) async {
        job.returned()
        queue.putBack(job)
    }

    /// Ends a job. All ends come through here.
    package func end(_ job: Job, _ status: JobStatus, error: JobError? = nil) async {
        let isAbandoned = status == .canceled && job.current.cancellation == .callerLeft
        guard job.finish(status, error: isAbandoned ? .callerLeft : error) else { return }
        await store.recordEnd(of: job)
        metrics.ended(job)
        logger.info("job ended", metadata: .end(of: job))
        limitPreviews(adding: job)
    }

    /// Removes expired jobs until shut down.
    package func run() async throws {
        try await repeating(every: .seconds(30)) {
            // Tried again the next time: a disk that is full now may not be then.
            do { try await self.removeEnded() } catch  where !(error is CancellationError) { self.logger.debug("old jobs could not be removed", metadata: ["error": "\(ErrorWords.of(error))"]) }
        }
    }

    /// Removes the jobs that are not to be kept any longer, with all that is theirs.
    package func removeEnded() async throws {
        while true {
            let oldest = Date(timeIntervalSinceNow: -configuration.retention.seconds)
            let removed = try await store.removeEnded(
                beyond: RetentionLimit(date: oldest, count: configuration.retainedJobs, bytes: configuration.retainedBytes ?? .max))
            guard !removed.isEmpty else { return }
            forgetPreviews(of: Set(removed.map(\.id)))
            keys.release(madeBy: Set(removed.filter(\.releasesKey).map(\.id.description)))
            for job in removed {
                try await assets.remove(outputsOf: job)
                await previewFiles?.remove(of: job.id)
            }
        }
    }

    /// Takes up the jobs of a former process: those that wait are queued in their old order, those that a ComfyUI has are given to `adopt`.
    ///
    /// - Parameter adopt: returns false for a ComfyUI that is not there any more; such a run is lost.
    package func restore(adopt: (_ job: Job, _ endpoint: String) -> Bool) async throws {
        let jobs = try await store.restore()
        var queuedCount = 0
        for job in jobs {
            job.setQueue(queue)
            let snapshot = job.snapshot
            if let endpoint = snapshot.assignment {
                if adopt(job, endpoint) { continue }
                try await assets.remove(outputsOf: job)
                job.endAttempt { $0.lost += 1 }
                job.returned()
            }
            if job.submission.workflow.nodes.isEmpty {
                await end(job, .failed, error: .unreadable)
            } else if snapshot.status == .canceling {
                await end(job, .canceled, error: .canceledByCaller)
            } else if job.submission.lacksCredentials {
                await end(job, .failed, error: .credentialsLost)
            } else {
                queue.restore(job)
                queuedCount += 1
            }
        }
        guard !jobs.isEmpty else { return }
        logger.info("took up the jobs of before", metadata: ["jobs": .stringConvertible(jobs.count), "queued": .stringConvertible(queuedCount)])
    }

    private func limitPreviews(adding job: Job) {
        let bytes = job.previewBytes
        guard bytes > 0 else { return }
        let (dropped, quiet) = previewsOfEnded.withLock { kept -> ([Job], Job?) in
            kept.jobs.append((job, bytes))
            let quiet = kept.jobs.dropLast(Self.livelyJobs).last?.job
            kept.total += bytes
            var dropped: [Job] = []
            while kept.total > configuration.retainedPreviewBytes || kept.jobs.count > 1000, let oldest = kept.jobs.popFirst() {
                kept.total -= oldest.bytes
                dropped.append(oldest.job)
            }
            return (dropped, quiet)
        }
        for job in dropped { job.dropPreviews() }
        quiet?.forgetRenderings()
    }
}

extension JobService {
    private func forgetPreviews(of ids: Set<JobID>) {
        previewsOfEnded.withLock { kept in
            kept.jobs.removeAll { ids.contains($0.job.id) }
            kept.total = kept.jobs.reduce(0) { $0 + $1.bytes }
        }
    }
}
