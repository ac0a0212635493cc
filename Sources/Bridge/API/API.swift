import ComfyUI
import MicroHTTP
import OrderedJSON

/// What all endpoints share: finding and submitting jobs, and answering with streams of them.
struct API: Sendable {
    let service: JobService
    let assets: AssetService
    let pool: WorkerPool
    /// Of jobs, whichever way they are submitted.
    let keys: IdempotencyKeys
    let uploadKeys: IdempotencyKeys
    let content: AssetContent
    let tasks: BackgroundTasks
    let heartbeats: Heartbeats
    let access: AccessGuard
    /// What callers see when a proxy stands before the bridge; nil takes the `Host` they named.
    let publicURL: PublicURL?
    /// How long a poll of the official SDK is held, so that its `run()` returns when the job ends and not at its next poll.
    let sdkHold: Duration
    let drain: Drain
    var fileRules = FileRules()
    var viewers: Viewers { service.metrics.viewers }

    func representation(for request: Request) -> Representation {
        Representation(links: links(for: request), retention: service.retention)
    }

    func links(for request: Request) -> Links { Links(request, publicURL: publicURL, signer: access.signer) }

    /// The present, for the metrics.
    func metricsReport() async throws -> MetricsReport {
        var jobs: [JobStatus: Int] = [.queued: service.queue.count]
        var comfyUIs: [MetricsReport.ComfyUI] = []
        for worker in pool.workers {
            let (endpoint, open) = (worker.configuration.endpoint, worker.inbox.openJobs)
            for id in open {
                if let status = try await service.job(id)?.status { jobs[status, default: 0] += 1 }
            }
            comfyUIs.append(
                MetricsReport.ComfyUI(
                    url: endpoint.description, isConnected: worker.inbox.isConnected, isInRotation: worker.status.isInRotation,
                    reconnects: service.metrics.reconnects(to: endpoint),
                    openPrompts: open.count, silence: open.map(worker.inbox.silence).max() ?? .zero))
        }
        return MetricsReport(
            version: ComfyBridge.version, jobs: jobs, queueDepth: service.queue.count, queueLimit: service.queue.limit, comfyUIs: comfyUIs,
            usage: ProcessUsage())
    }

    func job(_ id: String) async throws -> Job {
        guard let id = JobID(id), let job = try await service.job(id) else {
            throw APIError.notFound("There is no job '\(id.prefix(100))' (any more). Jobs are forgotten some time after their end (--retention).")
        }
        return job
    }

    /// Reads, checks and queues what the request asks for.
    ///
    /// - Parameters:
    ///   - attachesToSame: with an `Idempotency-Key` that made a job of the same submission, that job is the answer; else such a key
    ///     is an error, as the Comfy API v2 has it.
    ///   - failsWhenUnreachable: the caller blocks, and must not hang when there is no ComfyUI.
    func submit(_ request: Request, acceptsBareGraph: Bool, attachesToSame: Bool, failsWhenUnreachable: Bool) async throws -> Job {
        let begin = ContinuousClock.now
        let job = try await accept(
            request, acceptsBareGraph: acceptsBareGraph, attachesToSame: attachesToSame, failsWhenUnreachable: failsWhenUnreachable)
        service.metrics.observe(.accept, .now - begin)
        return job
    }

    private func accept(_ request: Request, acceptsBareGraph: Bool, attachesToSame: Bool, failsWhenUnreachable: Bool) async throws -> Job {
        var options = Submission.Options()
        options.timeout = try request.seconds("timeout")
        options.allowsPartial = try request.choice("partial", default: Partial.reject) == .allow
        options.failsWhenUnreachable = failsWhenUnreachable
        options.priority = try request.integer("priority", default: 0, in: Submission.Options.priorities)
        let submission = try await SubmissionReader(pool: pool, assets: assets, fileRules: fileRules).read(request, acceptsBareGraph: acceptsBareGraph, options: options)
        request.releaseBody()  // not held until the job ends
        guard let key = try request.idempotencyKey() else { return try await submit(submission, key: nil) }
        let digest = submission.digest
        var claim = try await keys.claim(key, digest: digest)
        while attachesToSame, case .busy = claim {
            await keys.waitForOutcome(of: key)
            claim = try await keys.claim(key, digest: digest)
        }
        switch claim {
        case .busy: throw APIError.idempotencyKeyReuse
        case .used(let id, let isSame):
            guard attachesToSame, isSame, let id, let job = try await service.job(id) else { throw APIError.idempotencyKeyReuse }
            return job
        case .granted:
            do {
                let job = try await submit(submission, key: UsedKey(operation: keys.operation, key: key, digest: digest))
                keys.settle(key, job: job.id)
                return job
            } catch {
                keys.release(key)
                throw error
            }
        }
    }

    /// Runs `body` once for an `Idempotency-Key`; a key whose run failed may be used again.
    func once<Result>(_ request: Request, _ keys: IdempotencyKeys, _ body: () async throws -> Result) async throws -> Result {
        guard let key = try request.idempotencyKey() else { return try await body() }
        switch try await keys.claim(key, digest: []) {
        case .busy: throw APIError.idempotencyKeyBusy
        case .used: throw APIError.idempotencyKeyReuse
        case .granted:
            do {
                let result = try await body()
                try await keys.settle(key, digest: [])
                return result
            } catch {
                keys.release(key)
                throw error
            }
        }
    }

    private enum Partial: String, CaseIterable { case allow, reject }

    private func submit(_ submission: Submission, key: UsedKey?) async throws -> Job {
        if let error = pool.unreachable { throw APIError(unreachable: error) }
        do { return try await service.submit(submission, key: key) } catch JobService.SubmitError.queueFull(let limit) {
            throw APIError.queueFull(limit: limit)
        } catch let error as StorageError {
            throw APIError(error)
        }
    }

    /// A blocked caller of the job went away; when it was the last, the job has nobody left to run for.
    func leave(_ job: Job) async {
        if job.detachCaller() == 0 { await service.cancel(job) }
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
