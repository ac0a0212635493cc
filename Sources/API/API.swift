import ComfyUI
package import Jobs
package import MicroHTTP
import OrderedJSON
import ServiceLifecycle
import Wording
package import Workers

/// What all endpoints share: finding and submitting jobs, and answering with streams of them.
package struct API: Sendable {
    package let service: JobService
    package let assets: AssetService
    package let pool: WorkerPool
    package let uploadKeys: IdempotencyKeys
    package let content: AssetContent
    package let tasks: BackgroundTasks
    package let heartbeats: Heartbeats
    package let access: AccessGuard
    /// What callers see when a proxy stands before the bridge; nil takes the `Host` they named.
    package let publicURL: PublicURL?
    /// How long a poll of the official SDK is held, so that its `run()` returns when the job ends and not at its next poll.
    package let sdkHold: Duration
    package let drain: Drain
    package let metrics: Metrics
    package let serverCounts: ServerCounts
    /// Of the bridge, as it tells it to callers.
    package let version: String

    package init(
        service: JobService, assets: AssetService, pool: WorkerPool, uploadKeys: IdempotencyKeys, content: AssetContent, tasks: BackgroundTasks,
        heartbeats: Heartbeats, access: AccessGuard, publicURL: PublicURL?, sdkHold: Duration, drain: Drain, metrics: Metrics,
        serverCounts: ServerCounts, version: String
    ) {
        self.service = service
        self.assets = assets
        self.pool = pool
        self.uploadKeys = uploadKeys
        self.content = content
        self.tasks = tasks
        self.heartbeats = heartbeats
        self.access = access
        self.publicURL = publicURL
        self.sdkHold = sdkHold
        self.drain = drain
        self.metrics = metrics
        self.serverCounts = serverCounts
        self.version = version
    }

    var viewers: Viewers { metrics.viewers }

    func representation(for request: Request) -> Representation {
        Representation(links: links(for: request), retention: service.retention)
    }

    func links(for request: Request) -> Links { Links(request, publicURL: publicURL, signer: access.signer) }

    /// The present, for the metrics.
    func metricsReport() async throws -> MetricsReport {
        var jobs: [JobStatus: Int] = [.queued: service.queue.count]
        var comfyUIs: [MetricsReport.ComfyUI] = []
        for worker in pool.workers {
            let worker = worker.status
            for prompt in worker.open {
                if let status = try await service.job(prompt.job)?.status { jobs[status, default: 0] += 1 }
            }
            comfyUIs.append(
                MetricsReport.ComfyUI(
                    url: worker.url, isConnected: worker.isConnected, isInRotation: worker.isInRotation, reconnects: metrics.reconnects(to: worker.url),
                    openPrompts: worker.open.count, silence: worker.open.map(\.silence).max() ?? .zero))
        }
        return MetricsReport(
            version: version, jobs: jobs, queueDepth: service.queue.count, queueLimit: service.queue.limit, comfyUIs: comfyUIs,
            usage: ProcessUsage())
    }

    package func job(_ id: String) async throws -> Job {
        guard let id = JobID(id), let job = try await service.job(id) else {
            throw APIError.notFound("There is no job '\(id.excerpt)' (any more). Jobs are forgotten some time after their end (--retention).")
        }
        return job
    }

    /// Reads, checks and queues what the request asks for.
    ///
    /// - Parameters:
    ///   - attachesToSame: an `Idempotency-Key` that made a job of the same submission leads to that job, and makes another once that one has
    ///     released it; else a used key is an error, as the Comfy API v2 has it.
    ///   - interest: the caller's, which the job knows of from here on.
    func submit(_ request: Request, acceptsBareGraph: Bool, attachesToSame: Bool, _ interest: Job.Interest) async throws -> Job {
        let begin = ContinuousClock.now
        let job = try await accept(request, acceptsBareGraph: acceptsBareGraph, attachesToSame: attachesToSame, interest)
        metrics.observe(.accept, .now - begin)
        return job
    }

    private func accept(_ request: Request, acceptsBareGraph: Bool, attachesToSame: Bool, _ interest: Job.Interest) async throws -> Job {
        var options = Submission.Options()
        options.timeout = try request.seconds("timeout")
        options.allowsPartial = try request.choice("partial", default: Partial.reject) == .allow
        options.priority = try request.integer("priority", default: 0, in: Submission.Options.priorities)
        let submission = try await SubmissionReader(pool: pool, assets: assets).read(request, acceptsBareGraph: acceptsBareGraph, options: options)
        request.releaseBody()  // not held until the job ends
        guard let key = try request.idempotencyKey() else { return try await submit(submission, interest, key: nil) }
        let (keys, digest) = (service.keys, submission.digest)
        var released: String?
        while true {
            switch try await keys.claim(key, digest: digest, replacing: released) {
            case .busy: await keys.waitForOutcome(of: key)
            case .used(let use, let isSame):
                let reuse = APIError.idempotencyKeyReuse(keys.operation, use.made)
                guard attachesToSame, let id = use.made.flatMap(JobID.init) else { throw reuse }
                let job = use.isReleased ? nil : try await service.job(id)
                if use.isReleased || job?.releasesKey == true {
                    released = use.made
                    continue
                }
                guard isSame, let job else { throw reuse }
                // It may have come to its end just now.
                if job.attach(interest) { return job }
                released = use.made
            case .granted:
                do {
                    let job = try await submit(submission, interest, key: UsedKey(operation: keys.operation, key: key, digest: digest))
                    keys.settle(key, job: job.id)
                    return job
                } catch {
                    keys.release(key)
                    throw error
                }
            }
        }
    }

    /// Runs `body` once for an `Idempotency-Key`; a key whose run failed may be used again.
    ///
    /// - Parameter id: of what was made.
    package func once<Result>(_ request: Request, _ keys: IdempotencyKeys, id: (Result) -> String, _ body: () async throws -> Result) async throws -> Result {
        guard let key = try request.idempotencyKey() else { return try await body() }
        switch try await keys.claim(key, digest: []) {
        case .busy: throw APIError.idempotencyKeyBusy
        case .used(let use, _): throw APIError.idempotencyKeyReuse(keys.operation, use.made)
        case .granted:
            do {
                let result = try await body()
                try await keys.settle(key, digest: [], made: id(result))
                return result
            } catch {
                keys.release(key)
                throw error
            }
        }
    }

    private enum Partial: String, CaseIterable { case allow, reject }

    private func submit(_ submission: Submission, _ interest: Job.Interest, key: UsedKey?) async throws -> Job {
        // A job that nobody blocks for is accepted however long ComfyUI is away.
        if interest != .isPromised, let error = await pool.refusal() { throw APIError(unreachable: error) }
        do { return try await service.submit(submission, interest, key: key) } catch JobService.SubmitError.queueFull(let limit) {
            throw APIError.queueFull(limit: limit)
        } catch let error as StorageError {
            throw APIError(error)
        }
    }

    /// Why waiting for the end of a job is over.
    package enum WaitEnd {
        case jobEnded, elapsed
        case unreachable(JobError)
        /// The bridge stops: blocked callers get an answer, their jobs go on.
        case draining
        /// Nobody reads the answer any more.
        case callerLeft
    }

    /// Waits for the end of the job.
    ///
    /// - Parameter limit: nil is for ever.
    package func wait(for job: Job, atMost limit: Duration?, isCaller: Bool) async -> WaitEnd {
        let end = limit.map { ContinuousClock.now + $0 }
        while true {
            let rest = end.map { ContinuousClock.now.duration(to: $0) }
            await cancelWhenGracefulShutdown { await job.wait(atMost: rest, isCaller: isCaller, until: \.isTerminal) }
            if job.snapshot.status.isTerminal { return .jobEnded }
            if drain.isDraining { return .draining }
            if Task.isCancelled { return .callerLeft }
            if let end, .now >= end { return .elapsed }
            if isCaller, let error = pool.unreachable(for: job) { return .unreachable(error) }
        }
    }

    /// The bytes of the first output that the caller can use; one that stays before one that ComfyUI will delete. Nil when none fits.
    ///
    /// - Parameter request: for conditions and ranges; nil sends the whole.
    package func content(of job: Job, _ accept: Accept, _ request: Request?, _ headers: HTTPHeaders, _ timing: inout ServerTiming) async throws -> Response? {
        let all = job.snapshot.outputs.inGraphOrder
        let outputs = all.filter { !$0.isTemporary } + all.filter(\.isTemporary)
        for range in accept.ranges {
            guard let output = outputs.first(where: { range.matches($0.contentType) }) else { continue }
            return try await timing.fetching { try await content.response(for: output.asset, request: request, headers: headers) }
        }
        return nil
    }

    func stream(_ job: Job, from start: Job.Start, _ representation: Representation, _ options: EventStream.Options, headers: HTTPHeaders = [:]) -> Response {
        guard let stream = EventStream(job, from: start, representation: representation, options: options, heartbeats: heartbeats, viewers: viewers) else {
            return Response(status: 204, headers: ["Comfy-Job-Id": job.id.description, "Cache-Control": "no-store"], body: .empty)
        }
        var headers = headers
        headers["Comfy-Job-Id"] = job.id.description
        headers["Content-Type"] = "text/event-stream"
        headers["Cache-Control"] = "no-cache, no-transform"
        headers["X-Accel-Buffering"] = "no"
        return Response(status: 200, headers: headers, body: .stream(stream, length: nil))
    }
}
