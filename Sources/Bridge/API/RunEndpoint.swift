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

    func callAsFunction(_ request: Request, _: PathParameters) async throws -> Response {
        var timing = ServerTiming()
        let accept = try Accept(request)
        let prefer = try Prefer(request)
        let form = try request.choice("outputs", default: OutputForm.url)
        let isBound = try request.choice("on_disconnect", default: OnDisconnect.cancel) == .cancel && prefer.wait != .zero
        var streamOptions = try EventStream.Options(request)
        let job = try await api.submit(request, acceptsBareGraph: true, attachesToSame: true, failsWhenUnreachable: isBound)
        let representation = api.representation(for: request)
        let handle: HTTPHeaders = ["Comfy-Job-Id": job.id.description]

        if accept.answer == .events, prefer.wait == nil {
            streamOptions.preamble = ServerSentEvent.encode("job", data: JSON.object(representation.job(job)).encoded())
            if isBound {
                job.attachCaller()
                streamOptions.onDisconnect = { [api] in api.tasks.start { await api.leave(job) } }
            }
            // From the beginning: the job may have come far before the stream is there.
            return api.stream(job, from: .after(id: 0), representation, streamOptions, headers: handle)
        }

        do {
            var response = try await block(job, request, accept, prefer, form, isBound: isBound, representation, handle, &timing)
            response.headers["Server-Timing"] = timing.value(of: job.timeline.marks)
            return response
        } catch var error as APIError {
            error.headers["Server-Timing"] = timing.value(of: job.timeline.marks)
            throw error
        }
    }

    /// Waits for the job, for as long as the caller wants to, and answers with what came of it.
    private func block(
        _ job: Job, _ request: Request, _ accept: Accept, _ prefer: Prefer, _ form: OutputForm, isBound: Bool, _ representation: Representation,
        _ handle: HTTPHeaders, _ timing: inout ServerTiming
    ) async throws -> Response {
        if isBound { job.attachCaller() }
        // A bridge that is being stopped sends its callers away; their jobs go on.
        await cancelWhenGracefulShutdown { await job.wait(atMost: prefer.wait, until: \.isTerminal) }
        let isSentAway = api.drain.isDraining
        if Task.isCancelled, !isSentAway {
            // Nobody reads the answer any more.
            if isBound { await api.leave(job) }
            throw APIError.shuttingDown
        }
        if isBound { job.detachCaller() }
        let snapshot = job.snapshot
        guard snapshot.status.isTerminal, prefer.wait != .zero else {
            var headers = handle
            headers["Location"] = representation.links.job(job.id)
            headers["Preference-Applied"] = prefer.applied
            var members = representation.job(job)
            if isSentAway {
                headers["Retry-After"] = "5"
                members["message"] = .string(api.drain.message(about: snapshot.status))
            }
            return .json(.object(members), status: 202, headers: headers)
        }
        guard snapshot.status == .succeeded else {
            throw APIError(snapshot.error ?? .lost, job: job, links: representation.links)
        }
        do {
            switch accept.answer {
            case .content: return try await content(of: job, snapshot, accept, request, representation, handle, &timing)
            case .json, .events: return try await json(job, form, representation, handle, &timing)
            }
        } catch var error as APIError {
            // The job is done, only its bytes could not be had: whoever knows its id can get them later.
            if error.details == .null { error.details = ["job_id": .string(job.id.description)] }
            error.headers["Comfy-Job-Id"] = job.id.description
            error.headers["Location"] = representation.links.job(job.id)
            throw error
        }
    }

    /// The bytes of the first output that the caller can use; one that stays before one that ComfyUI will delete.
    private func content(
        of job: Job, _ snapshot: Job.Snapshot, _ accept: Accept, _ request: Request, _ representation: Representation, _ headers: HTTPHeaders,
        _ timing: inout ServerTiming
    ) async throws -> Response {
        let inOrder = snapshot.outputs.inGraphOrder
        let outputs = inOrder.filter { !$0.isTemporary } + inOrder.filter(\.isTemporary)
        for range in accept.ranges {
            guard let output = outputs.first(where: { range.matches($0.contentType) }) else { continue }
            return try await timing.fetching { try await api.content.response(for: output.asset, request: nil, headers: headers) }
        }
        if accept.allowsJSON { return try await json(job, .url, representation, headers, &timing) }
        var error = APIError.notAcceptable(
            "The job succeeded, but has no output of the type asked for. It has: "
                + (snapshot.outputs.isEmpty ? "none" : Set(snapshot.outputs.map(\.contentType)).sorted().joined(separator: ", ")) + ".",
            details: .object(representation.job(job)))
        error.headers = headers
        throw error
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
