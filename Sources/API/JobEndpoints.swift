import Jobs
import MicroHTTP
import OrderedJSON
import ServiceLifecycle
import Wording

/// `/api/v2/jobs`: the resource API.
struct JobEndpoints: Sendable {
    let api: API

    func submit(_ request: Request, _: PathParameters) async throws -> Response {
        let job = try await api.submit(request, acceptsBareGraph: false, attachesToSame: false, .isPromised)
        return answer(job, request, status: 201, headers: ["Location": api.links(for: request).job(job.id)])
    }

    /// The job as it is; with `Prefer: wait=N` once its status is another than now, with a poll of the official SDK once it is over. Or what
    /// it made, for callers that accept that: at its `Location` `POST /run` said that they would find it.
    func get(_ request: Request, _ path: PathParameters) async throws -> Response {
        let prefer = try Prefer(request)
        let job = try await api.job(path["id"])
        // Whatever else Accept names is answered with the job; a browser that opens the address names pictures beside everything.
        if let accept = try? Accept(request), accept.isOnlyContent { return try await result(of: job, accept, prefer, request) }
        let present = job.snapshot.status
        if let limit = prefer.wait {
            await hold(job, atMost: limit) { $0 != present }
        } else if !present.isTerminal, request.headers["User-Agent"]?.hasPrefix("comfy-sdk") == true, request.method == "GET" {
            let end = ContinuousClock.now + api.sdkHold
            if await holdInSilence(job, until: end) { return held(job, request, until: end) }
        }
        var headers: HTTPHeaders = ["Vary": "Accept"]
        headers["Preference-Applied"] = prefer.applied
        return answer(job, request, headers: headers)
    }

    /// The answer of `POST /run` to the same `Accept`, once the job is over. Without `Prefer` that is not waited for, as with the job itself.
    private func result(of job: Job, _ accept: Accept, _ prefer: Prefer, _ request: Request) async throws -> Response {
        var headers: HTTPHeaders = ["Comfy-Job-Id": job.id.description, "Vary": "Accept"]
        headers["Preference-Applied"] = prefer.applied
        let representation = api.representation(for: request)
        let end = await api.wait(for: job, atMost: prefer.wait ?? .zero, isCaller: false)
        let snapshot = job.snapshot
        guard case .jobEnded = end, snapshot.status == .succeeded else {
            guard case .jobEnded = end else {
                throw api.drain.isDraining
                    ? APIError.shuttingDown(job, api.drain.message(about: snapshot.status), representation.links) : .waitElapsed(job, representation.links)
            }
            throw APIError(snapshot.error ?? .lost, job: job, links: representation.links)
        }
        var timing = ServerTiming()
        if let content = try await api.content(of: job, accept, request, headers, &timing) { return content }
        throw APIError.noSuchOutput(of: job, representation, headers)
    }

    /// Holds an answer back; not when the bridge shuts down, which it would only delay.
    private func hold(_ job: Job, atMost limit: Duration, until isWanted: @escaping @Sendable (JobStatus) -> Bool) async {
        await cancelWhenGracefulShutdown { await job.wait(atMost: limit, until: isWanted) }
    }

    /// Holds an answer back for as long as a client need not hear of it.
    ///
    /// - Returns: whether the job is not over, and there is more time.
    private func holdInSilence(_ job: Job, until end: ContinuousClock.Instant) async -> Bool {
        let pause = min(.now + .milliseconds(500), end)
        await hold(job, atMost: ContinuousClock.now.duration(to: pause), until: \.isTerminal)
        return .now >= pause && pause < end && !job.snapshot.status.isTerminal  // before the pause: the bridge shuts down
    }

    /// The rest of a held poll: blanks, with which JSON may begin, until the job is over, and then the job. The blanks keep clients from
    /// giving up whose time limit is shorter than the hold.
    private func held(_ job: Job, _ request: Request, until end: ContinuousClock.Instant) -> Response {
        let body = BodyPipe()
        api.tasks.start { [api] in
            do {
                repeat { try await body.write(Array(" ".utf8)) } while await self.holdInSilence(job, until: end)
                try await body.write(JSON.object(api.representation(for: request).job(job)).encoded())
                body.finish()
            } catch {
                body.fail()  // nobody reads it any more
            }
        }
        let headers: HTTPHeaders = ["Content-Type": "application/json", "Cache-Control": "no-store", "Comfy-Job-Id": job.id.description, "Vary": "Accept"]
        return Response(status: 200, headers: headers, body: .stream(body, length: nil))
    }

    /// What the job is waiting for, or how it ended, in words.
    func why(_: Request, _ path: PathParameters) async throws -> Response {
        let job = try await api.job(path["id"])
        let answer = Why(try await api.situation(of: job))
        return .json(answer.representation(of: job.id), headers: ["Comfy-Job-Id": job.id.description])
    }

    func workflow(_: Request, _ path: PathParameters) async throws -> Response {
        let job = try await api.job(path["id"])
        let body = Array(#"{"workflow":"#.utf8) + (try await api.service.store.workflow(of: job)) + Array(#","format":"api"}"#.utf8)
        let headers: HTTPHeaders = ["Content-Type": "application/json", "Cache-Control": "no-store", "Comfy-Job-Id": job.id.description]
        return Response(status: 200, headers: headers, body: .bytes(body))
    }

    /// Asks for the end of a job. Of a finished one it changes nothing.
    func cancel(_ request: Request, _ path: PathParameters) async throws -> Response {
        let job = try await api.job(path["id"])
        await api.service.cancel(job)
        return answer(job, request)
    }

    func events(_ request: Request, _ path: PathParameters) async throws -> Response {
        let job = try await api.job(path["id"])
        let start = try request.lastEventID().map(Job.Start.after) ?? .snapshot
        return api.stream(job, from: start, api.representation(for: request), try EventStream.Options(request))
    }

    /// The newest preview.
    func latestPreview(_ request: Request, _ path: PathParameters) async throws -> Response {
        let job = try await api.job(path["id"])
        guard let preview = job.latestPreview else {
            throw APIError.notFound("The job has no preview (yet, or any more). Not every workflow sends previews; samplers do.")
        }
        return answer(preview, of: job, request, cacheControl: "no-cache")
    }

    func preview(_ request: Request, _ path: PathParameters) async throws -> Response {
        let job = try await api.job(path["id"])
        guard let number = Int(path["n"]), number > 0 else {
            throw APIError.notFound("'\(path["n"].excerpt)' is no preview; the url in a preview event says the number.")
        }
        guard let preview = job.preview(number) else {
            throw APIError.notFound("Preview \(number) is not kept; only the newest are (--preview-history).")
        }
        return answer(preview, of: job, request, cacheControl: "private, max-age=86400, immutable")
    }

    private func answer(_ job: Job, _ request: Request, status: Int = 200, headers: HTTPHeaders = [:]) -> Response {
        var headers = headers
        headers["Comfy-Job-Id"] = job.id.description
        return .json(.object(api.representation(for: request).job(job)), status: status, headers: headers)
    }

    private func answer(_ preview: Preview, of job: Job, _ request: Request, cacheControl: String) -> Response {
        var headers: HTTPHeaders = [
            "Content-Type": preview.contentType, "ETag": "\"\(preview.number)\"", "Cache-Control": cacheControl, "Comfy-Job-Id": job.id.description,
        ]
        for (name, value) in AssetContent.confinement { headers[name] = value }
        if request.matches(etag: "\"\(preview.number)\"") { return Response(status: 304, headers: headers, body: .empty) }
        api.metrics.sent[.preview].add(preview.bytes.count)
        return Response(status: 200, headers: headers, body: .bytes(preview.bytes))
    }
}
