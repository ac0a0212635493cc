import FoundationEssentials
import Jobs
package import MicroHTTP
import OrderedCollections
package import OrderedJSON
import Wording
import Workflow

/// An answer that says what is wrong and what to do, in the one envelope `{"error": {"code", "message", "details"}}`.
///
/// All error replies of the bridge are made here; nothing below this folder knows a status code.
package struct APIError: Error, CustomStringConvertible {
    let status: Int
    let code: String
    package let message: String
    var details: JSON = .null
    package var headers: HTTPHeaders = [:]

    package var description: String { message }

    package var response: Response {
        let envelope: JSON = ["error": ["code": .string(code), "message": .string(message), "details": details]]
        return .json(envelope, status: status, headers: headers)
    }
}

extension APIError {
    static func invalidJSON(_ message: String) -> APIError {
        APIError(status: 400, code: "invalid_json", message: message)
    }

    /// A query parameter or a header with a value that cannot be used.
    static func invalidParameter(_ name: String, _ message: String) -> APIError {
        APIError(status: 400, code: "invalid_parameter", message: message, details: ["parameter": .string(name)])
    }

    static func invalidCursor(_ text: String) -> APIError {
        APIError(
            status: 400, code: "invalid_cursor",
            message: "'\(text.excerpt)' is no cursor of this list. Send the next_cursor of the page before, or none to begin anew.",
            details: ["parameter": "cursor"])
    }

    static func invalidMetadataFilter(_ message: String) -> APIError {
        APIError(status: 400, code: "invalid_metadata_filter", message: message, details: ["parameter": "metadata"])
    }

    /// A member of the request's JSON object.
    static func invalidRequest(_ field: String, _ message: String) -> APIError {
        APIError(status: 422, code: "invalid_request", message: message, details: ["field": .string(field.excerpt)])
    }

    static func unauthorized(_ message: String) -> APIError {
        APIError(status: 401, code: "unauthorized", message: message, headers: ["WWW-Authenticate": "Bearer"])
    }

    static func forbidden(_ message: String) -> APIError {
        APIError(status: 403, code: "forbidden", message: message)
    }

    static func notFound(_ what: String) -> APIError {
        APIError(status: 404, code: "not_found", message: what)
    }

    static func methodNotAllowed(_ method: String, allowed: [String]) -> APIError {
        APIError(
            status: 405, code: "method_not_allowed", message: "\(method.excerpt) is not possible here; use \(allowed.joined(separator: " or ")).",
            headers: ["Allow": allowed.joined(separator: ", ")])
    }

    static func notAcceptable(_ message: String, details: JSON = .null) -> APIError {
        APIError(status: 406, code: "not_acceptable", message: message, details: details)
    }

    /// The caller accepts nothing that the job has made.
    static func noSuchOutput(of job: Job, _ representation: Representation, _ headers: HTTPHeaders) -> APIError {
        let types = Set(job.snapshot.outputs.inGraphOrder.map(\.contentType)).sorted().joined(separator: ", ")
        var error = notAcceptable(
            "The job succeeded, but has no output of the type asked for. It has: \(types.isEmpty ? "none" : types).", details: .object(representation.job(job)))
        error.headers = headers
        return error
    }

    static func rangeNotSatisfiable(size: Int) -> APIError {
        APIError(
            status: 416, code: "range_not_satisfiable", message: "The range lies beyond the end; the content has \(size) bytes.",
            headers: ["Content-Range": "bytes */\(size)"])
    }

    static func missingAssets(_ ids: [String]) -> APIError {
        APIError(
            status: 422, code: "missing_asset",
            message: "The workflow refers to assets that do not exist (any more): \(ids.prefix(10).map(\.excerpt).joined(separator: ", ")). Upload them again and use the new ids.",
            details: ["missing_ids": .array(ids.map { .string($0.excerpt) })])
    }

    static let blobNotFound = APIError(
        status: 404, code: "blob_not_found", message: "There are no bytes with this hash here. Upload them with POST /api/v2/assets.")

    static let assetInUse = APIError(
        status: 409, code: "asset_in_use",
        message: "The asset is needed: it is an output of a job that is still kept, or a job that is not over reads it. Outputs go with their job.")

    static func hashMismatch(expected: ContentHash, actual: ContentHash) -> APIError {
        APIError(
            status: 409, code: "hash_mismatch", message: "The bytes that arrived are not those of expected_hash; nothing was kept. Upload them again.",
            details: ["expected": .string(expected.description), "actual": .string(actual.description)])
    }

    static let unsupportedMediaType = APIError(
        status: 415, code: "unsupported_media_type",
        message: "Send the file as multipart/form-data, for example with curl -F file=@photo.png -F file_path=photo.png -F content_type=image/png.")

    init(_ error: FormUploadError) {
        switch error {
        case .malformed(let reason):
            self.init(status: 400, code: "invalid_request", message: "The body is not a valid multipart/form-data form: \(reason)")
        case .tooLarge(let limit):
            self.init(
                status: 413, code: "payload_too_large",
                message: "The upload has more than \(limit) bytes; send a smaller file, or raise --max-upload-size.")
        case .noMemory: self = .overloaded
        case .disconnected: self = .shuttingDown
        }
    }

    init(_ error: StorageError) {
        switch error {
        case .full:
            self.init(
                status: 507, code: "insufficient_storage",
                message: "The bridge's disk is full; nothing was kept. Delete assets, or give --data-dir a larger disk.")
        case .tooManyFiles: self = .overloaded
        case .damaged:
            self.init(
                status: 500, code: "internal_error",
                message: "The bridge's database (--data-dir) is damaged: it can neither be read nor written until its operator has repaired or replaced it. Its log says more.")
        case .failed:
            self.init(
                status: 500, code: "internal_error",
                message: "The bridge cannot write to its disk (--data-dir); nothing was kept. Its log says why, and /readyz when it can again.")
        }
    }

    /// - Parameter id: of what was made with the key, where that is known.
    static func idempotencyKeyReuse(_ operation: UsedKey.Operation, _ id: String?) -> APIError {
        let (what, member) = operation == .job ? ("job", "job_id") : ("asset", "asset_id")
        let found = id.map { " It made the \(what) \($0); ask for that one." } ?? ""
        return APIError(
            status: 422, code: "idempotency_key_reuse", message: "This Idempotency-Key was already used.\(found) Use a new key for a new \(what).",
            details: id.map { [member: .string($0)] } ?? .null)
    }

    static let idempotencyKeyBusy = APIError(
        status: 409, code: "idempotency_key_busy", message: "Another upload with this Idempotency-Key is under way. Try again when it has ended.",
        headers: ["Retry-After": "1"])

    static func queueFull(limit: Int) -> APIError {
        APIError(
            status: 429, code: "queue_full", message: "\(limit) jobs are waiting already. Try again later, or raise --queue-limit.", headers: ["Retry-After": "5"])
    }

    static let shuttingDown = APIError(
        status: 503, code: "shutting_down", message: "The bridge is shutting down. Try again shortly.", headers: ["Retry-After": "5"])

    /// The bridge stops before there are bytes for a caller that accepts nothing else. The job goes on.
    static func shuttingDown(_ job: Job, _ message: String, _ links: Links) -> APIError {
        APIError(status: 503, code: "shutting_down", message: message, unfinished: job, links, retryAfter: 5)
    }

    /// The wait of a caller that accepts only bytes is over before there are any. The job goes on.
    static func waitElapsed(_ job: Job, _ links: Links) -> APIError {
        APIError(
            status: 504, code: "wait_elapsed",
            message: "The job is not over yet, and goes on. Ask for its bytes at the Location, with the same Accept and Prefer: wait=30.", unfinished: job,
            links, retryAfter: 1)
    }

    /// No ComfyUI can be reached; the job is kept, and its blocked caller gets an answer.
    static func unreachable(_ error: JobError, _ job: Job, _ links: Links) -> APIError {
        APIError(
            status: 503, code: error.code.rawValue, message: "\(error.message) The job goes on when ComfyUI is back.", unfinished: job,
            links, retryAfter: 5)
    }

    private init(status: Int, code: String, message: String, unfinished job: Job, _ links: Links, retryAfter: Int) {
        self.init(
            status: status, code: code, message: message,
            details: ["job_id": .string(job.id.description), "status": .string(job.snapshot.status.rawValue)],
            headers: ["Comfy-Job-Id": job.id.description, "Location": links.job(job.id), "Retry-After": "\(retryAfter)"])
    }

    static let overloaded = APIError(
        status: 503, code: "overloaded", message: "Too many requests are being accepted at the same time. Try again shortly.", headers: ["Retry-After": "1"])

    static func tooManyConnections(limit: Int) -> APIError {
        APIError(
            status: 503, code: "overloaded",
            message: "\(limit) connections are open, and that is the limit (--connection-limit, or the system's for open files). Try again shortly.",
            headers: ["Retry-After": "1"])
    }

    static func bodiesTooLarge(limit: Int) -> APIError {
        APIError(
            status: 503, code: "overloaded",
            message: "The requests that are arriving have bodies of more than \(limit) bytes together, and that is the limit (--body-memory). Try again shortly.",
            headers: ["Retry-After": "1"])
    }

    static let internalError = APIError(status: 500, code: "internal_error", message: "Something went wrong inside the bridge; its log says what.")

    static func payloadTooLarge(limit: Int) -> APIError {
        APIError(
            status: 413, code: "payload_too_large",
            message: "The body has more than \(limit) bytes, the most that is taken here. Send large inputs as files instead of inside the workflow, or raise "
                + "--max-body-size (of uploads, --max-upload-size).")
    }

    /// Of a route that reads no body.
    static func bodyNotRead(limit: Int) -> APIError {
        APIError(
            status: 413, code: "payload_too_large",
            message: "The body has more than \(limit) bytes, and nothing is read of a body here. Leave it out, or send it to the route that it is meant for; "
                + "/openapi.yaml lists them.")
    }

    static func tooManyValues(limit: Int) -> APIError {
        APIError(
            status: 413, code: "payload_too_large",
            message: "The body has more than \(limit) JSON values (numbers, texts, lists, objects). Send long lists as files instead of inside the workflow.")
    }

    init(_ failure: HTTPServerFailure) {
        switch failure {
        case .bodyTooLarge(let limit): self = .payloadTooLarge(limit: limit)
        case .bodiesTooLarge(let limit): self = .bodiesTooLarge(limit: limit)
        case .overloaded: self = .overloaded
        case .tooManyConnections(let limit): self = .tooManyConnections(limit: limit)
        case .shuttingDown: self = .shuttingDown
        case .malformed(let reason): self = APIError(status: 400, code: "invalid_request", message: "The request is not valid HTTP: \(reason)")
        case .headTooLarge(let limit):
            self = APIError(
                status: 431, code: "headers_too_large",
                message: "The URL and the headers (cookies too) have more than \(limit) bytes, or there are too many headers. Send less, or raise --connection-memory.")
        case .requestTimeout:
            self = APIError(
                status: 408, code: "request_timeout",
                message: "The request came too slowly: its head may take 15 seconds, its body has to bring 500 bytes a second. Send it again.")
        case .unsupportedVersion: self = APIError(status: 505, code: "http_version_not_supported", message: "The bridge speaks HTTP/1.1 and HTTP/1.0.")
        }
    }

    init(_ error: WorkflowError) {
        switch error {
        case .notAGraph(let found):
            self.init(
                status: 422, code: "invalid_workflow",
                message: "The workflow must be an object of nodes, not \(found). Send what Workflow > Export (API) wrote.")
        case .editorFormat:
            self.init(
                status: 422, code: "workflow_format_ui",
                message: "This is the editor's format (nodes and links), which cannot be run. Export it with Workflow > Export (API) and send that file.")
        case .invalid(let faults):
            self.init(
                status: 422, code: "invalid_workflow",
                message: (faults.first?.message ?? "The workflow is invalid.") + (faults.total > 1 ? " (\(faults.total) faults in all\(faults.isComplete ? "" : ", of which the first \(faults.count) are listed"))" : ""),
                details: APIError.details(of: faults))
        }
    }

    /// How a job that ended early answers its blocked caller.
    init(_ error: JobError, job: Job, links: Links) {
        var details: JSONObject = ["job_id": .string(job.id.description)]
        if let node = error.node { details["node_id"] = .string(node) }
        if let classType = error.classType { details["class_type"] = .string(classType) }
        details.merge(APIError.details(of: error.faults).object ?? [:]) { own, _ in own }
        var headers: HTTPHeaders = ["Comfy-Job-Id": job.id.description, "Location": links.job(job.id)]
        let status: Int
        switch error.code {
        case .nodeExecutionError, .outOfMemory, .poison: status = 500
        case .invalidWorkflow: status = 422
        case .missingAsset: status = 422
        case .payloadTooLarge: status = 413
        case .canceled, .credentialsLost: status = 409
        case .timedOut: status = 504
        case .upstreamLost, .upstreamStuck, .upstreamError, .deviceError, .invalidOutput: status = 502
        case .insufficientStorage: status = 507
        case .upstreamUnreachable:
            status = 503
            headers["Retry-After"] = "5"
        }
        self.init(status: status, code: error.code.rawValue, message: error.message, details: .object(details), headers: headers)
    }

    /// No ComfyUI can be reached, known before there is a job.
    init(unreachable error: JobError) {
        self.init(status: 503, code: error.code.rawValue, message: error.message, headers: ["Retry-After": "5"])
    }

    /// `node_errors` as the Comfy API v2 shows them, by node id; faults of the whole workflow under `""`. `fault_count` where there are more.
    static func details(of faults: WorkflowFaults) -> JSON {
        guard !faults.isEmpty else { return [:] }
        var nodes: JSONObject = [:]
        for fault in faults {
            let entry: JSON = [
                "field": .optional(fault.field), "reason": .string(fault.reason), "message": .string(fault.message), "class_type": .optional(fault.classType),
            ]
            nodes[fault.node ?? ""] = .array((nodes[fault.node ?? ""]?.array ?? []) + [entry])
        }
        return faults.isComplete ? ["node_errors": .object(nodes)] : ["node_errors": .object(nodes), "fault_count": JSON(faults.total)]
    }
}

extension Response {
    package static func json(_ value: JSON, status: Int = 200, headers: HTTPHeaders = [:]) -> Response {
        var headers = headers
        headers["Content-Type"] = "application/json"
        if headers["Cache-Control"] == nil { headers["Cache-Control"] = "no-store" }
        return Response(status: status, headers: headers, body: .bytes(value.encoded()))
    }
}
