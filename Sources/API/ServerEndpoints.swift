import ComfyUI
import Crypto
import Jobs
import MicroHTTP
import OrderedCollections
import OrderedJSON
import Playground
import Wording
import Workers

/// What is about the bridge itself: health, readiness, its description and its page.
struct ServerEndpoints: Sendable {
    let api: API

    /// The process lives. Says nothing about ComfyUI.
    func health(_: Request, _: PathParameters) async throws -> Response {
        .json(["status": "ok", "version": .string(api.version)])
    }

    /// Whether a job submitted now would be given to a ComfyUI at once: 200, else 503. A ComfyUI that is out of rotation counts once its pause is
    /// over: a load balancer that waited for it to work would never let the job through that shows that it does.
    /// Why, and where the ComfyUIs are, is told to callers with a token.
    func readiness(_ request: Request, _: PathParameters) async throws -> Response {
        let states = api.pool.workers.map(\.status)
        let isDraining = api.drain.isDraining
        // A bridge that cannot keep a job must not take one.
        let storageFailure = api.service.store.failure
        let isReady = !isDraining && storageFailure == nil && states.contains { $0.takesJobs && $0.hasCatalog }
        let (status, headers): (Int, HTTPHeaders) = isReady ? (200, [:]) : (503, ["Retry-After": "5"])
        guard api.access.isInsider(request) else { return .json(["ready": .bool(isReady)], status: status, headers: headers) }
        let comfyUIs = states.map { state -> JSON in
            var members: JSONObject = [
                "url": .string(state.url), "connected": .bool(state.isConnected), "in_rotation": .bool(state.isInRotation),
                "version": .optional(state.version),
                "open_prompts": JSON(state.open.count),
            ]
            if let reason = state.reason { members["reason"] = .string(reason) }
            return .object(members)
        }
        var members: JSONObject = [
            "ready": .bool(isReady), "comfyui": .array(comfyUIs), "queued_jobs": JSON(api.service.queue.count), "version": .string(api.version),
        ]
        if let storageFailure { members["storage"] = ["reason": .string(storageFailure)] }
        if isDraining { members["reason"] = "draining" }
        return .json(.object(members), status: status, headers: headers)
    }

    /// What operators watch, in the text format of Prometheus. With a token like everything that tells of jobs: Prometheus sends one.
    func metrics(_: Request, _: PathParameters) async throws -> Response {
        let text = try await api.metricsReport().text(api.metrics, requests: api.serverCounts.requests, openConnections: api.serverCounts.openConnections)
        return Response(status: 200, headers: ["Content-Type": PrometheusText.contentType, "Cache-Control": "no-store"], body: .bytes(Array(text.utf8)))
    }

    func openAPI(_ request: Request, _: PathParameters) async throws -> Response {
        file(Self.openAPI, "application/yaml", request)
    }

    func page(_ request: Request, _: PathParameters) async throws -> Response {
        var response = file(Self.indexHTML, "text/html; charset=utf-8", request)
        response.headers["Content-Security-Policy"] =
            "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'self'"
        return response
    }

    func script(_ request: Request, _: PathParameters) async throws -> Response {
        file(Self.script, "text/javascript; charset=utf-8", request)
    }

    func styleSheet(_ request: Request, _: PathParameters) async throws -> Response {
        file(Self.styleSheet, "text/css; charset=utf-8", request)
    }

    private static let openAPI = EmbeddedFile(Playground.openAPI)
    private static let indexHTML = EmbeddedFile(Playground.indexHTML)
    private static let script = EmbeddedFile(Playground.script)
    private static let styleSheet = EmbeddedFile(Playground.styleSheet)

    /// The page asks each time whether it is still the newest: it comes with the binary.
    private func file(_ file: EmbeddedFile, _ contentType: String, _ request: Request) -> Response {
        let headers: HTTPHeaders = ["Content-Type": contentType, "Cache-Control": "no-cache", "ETag": file.etag]
        if request.matches(etag: file.etag) { return Response(status: 304, headers: headers, body: .empty) }
        return Response(status: 200, headers: headers, body: .bytes(file.bytes))
    }
}

/// A file of the binary with the tag of its content.
private struct EmbeddedFile: Sendable {
    let bytes: [UInt8]
    let etag: String

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        etag = "\"" + SHA256.hash(data: bytes).prefix(16).hexadecimal + "\""
    }
}
