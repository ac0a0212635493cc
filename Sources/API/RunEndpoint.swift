import Jobs
import Logging
import MicroHTTP
import NIOCore
import OrderedCollections
import OrderedJSON
import ServiceLifecycle

/// `POST /run`: a workflow in, its result out, in the form that the caller asks for.
struct RunEndpoint: Sendable {
    let api: API

    private enum OutputForm: String, CaseIterable { case url, base64 }
    private enum OnDisconnect: String, CaseIterable { case cancel, `continue` }

    /// What the head of the request asks for.
    private struct Wishes {
        let accept: Accept
        let prefer: Prefer
        let form: OutputForm
        /// The answer is the job's stream: it has no moment at which something else could be.
        let isStream: Bool
        let interest: Job.Interest
        let streamOptions: EventStream.Options

        init(_ request: Request) throws {
            accept = try Accept(request)
            prefer = try Prefer(request)
            form = try request.choice("outputs", default: OutputForm.url)
            // With a key the caller means to come again, for the same job.
            let onDisconnect = try request.choice("on_disconnect", default: request.idempotencyKey() == nil ? OnDisconnect.cancel : .continue)
            isStream = accept.answer == .events && !prefer.isAsync
            interest = prefer.wait == .zero && !isStream ? .isPromised : .blocks(endsJob: onDisconnect == .cancel)
            streamOptions = try EventStream.Options(request)
        }
    }

    func callAsFunction(_ request: Request, _: PathParameters) async throws -> Response {
        var timing = ServerTiming()
        let wishes = try Wishes(request)
        let job = try await api.submit(request, acceptsBareGraph: true, attachesToSame: true, wishes.interest)
        let representation = api.representation(for: request)
        let handle: HTTPHeaders = ["Comfy-Job-Id": job.id.description]
        if wishes.isStream { return stream(job, wishes.streamOptions, representation, handle) }
        do {
            var response = try await block(job, wishes, representation, handle, &timing)
            response.headers["Server-Timing"] = timing.value(of: job.timeline.marks)
            return response
        } catch var error as APIError {
            error.headers["Server-Timing"] = timing.value(of: job.timeline.marks)
            throw error
        }
    }

    private func stream(_ job: Job, _ options: EventStream.Options, _ representation: Representation, _ handle: HTTPHeaders) -> Response {
        var options = options
        options.preamble = ServerSentEvent.encode("job", data: JSON.object(representation.job(job)).encoded())
        options.onDisconnect = { [api] in api.tasks.start { await api.service.callerLeft(job) } }
        // From the beginning: the job may have come far before the stream is there.
        return api.stream(job, from: .after(id: 0), representation, options, headers: handle)
    }

    /// Waits for the job, for as long as the caller wants to, and answers with what came of it.
    ///
    /// Not inlined: Swift 6.3.1 crashes when it splits the coroutine that comes of it (`emitSetAndGetSwiftErrorValueAround`, release builds only).
    @inline(never)
    private func block(
        _ job: Job, _ wishes: Wishes, _ representation: Representation, _ handle: HTTPHeaders, _ timing: inout ServerTiming
    ) async throws -> Response {
        let (accept, prefer) = (wishes.accept, wishes.prefer)
        let blocks = wishes.interest != .isPromised
        let end = await api.wait(for: job, atMost: prefer.wait, isCaller: blocks)
        switch end {
        case .callerLeft:
            if blocks { await api.service.callerLeft(job) }
            throw APIError.shuttingDown
        case .unreachable(let error):
            job.detachCaller()
            throw APIError.unreachable(error, job, representation.links)
        case .jobEnded where !(prefer.isAsync && !blocks):
            if blocks { job.detachCaller() }
        case .jobEnded, .elapsed, .draining:
            if blocks { job.detachCaller(isPromised: true) }
            return try unfinished(job, accept, prefer, representation, handle)
        }
        let snapshot = job.snapshot
        guard snapshot.status == .succeeded else {
            throw APIError(snapshot.error ?? .lost, job: job, links: representation.links)
        }
        do {
            guard accept.answer == .content else { return try await json(job, wishes.form, representation, handle, &timing) }
            if let content = try await api.content(of: job, accept, nil, handle, &timing) { return content }
            guard accept.allowsJSON else { throw APIError.noSuchOutput(of: job, representation, handle) }
            return try await json(job, .url, representation, handle, &timing)
        } catch var error as APIError {
            // The job is done, only its bytes could not be had: whoever knows its id can get them later.
            if error.details == .null { error.details = ["job_id": .string(job.id.description)] }
            error.headers["Comfy-Job-Id"] = job.id.description
            error.headers["Location"] = representation.links.job(job.id)
            throw error
        }
    }

    /// The answer before the job is over: the job itself, for callers that can tell it from a result.
    private func unfinished(_ job: Job, _ accept: Accept, _ prefer: Prefer, _ representation: Representation, _ handle: HTTPHeaders) throws -> Response {
        let isSentAway = api.drain.isDraining
        if accept.isOnlyContent, !prefer.isAsync {
            throw isSentAway
                ? APIError.shuttingDown(job, api.drain.message(about: job.snapshot.status), representation.links) : .waitElapsed(job, representation.links)
        }
        var headers = handle
        headers["Location"] = representation.links.job(job.id)
        headers["Preference-Applied"] = prefer.applied
        var members = representation.job(job)
        if isSentAway {
            headers["Retry-After"] = "5"
            members["message"] = .string(api.drain.message(about: job.snapshot.status))
        }
        return .json(.object(members), status: 202, headers: headers)
    }

    private func json(_ job: Job, _ form: OutputForm, _ representation: Representation, _ headers: HTTPHeaders, _ timing: inout ServerTiming) async throws -> Response {
        var members = representation.job(job)
        if form == .base64 {
            var outputs: [JSON] = []
            var budget = AssetContent.inlineLimit
            for output in job.snapshot.outputs.inGraphOrder {
                var entry = representation.output(output)
                if let data = try await timing.fetching({ try await api.content.base64(of: output.asset, budget: &budget) }) {
                    entry["data_base64"] = .string(data)
                } else {
                    entry["data_base64"] = .null
                    entry["data_omitted"] = "The outputs are too large to be sent inside JSON; fetch this one from its url."
                }
                outputs.append(.object(entry))
            }
            members["outputs"] = .array(outputs)
        }
        return .json(.object(members), headers: headers)
    }
}

extension EventStream.Options {
    init(_ request: Request) throws {
        self.init(previews: try request.choice("previews", default: .base64), includesNative: try request.flag("native"))
    }
}
