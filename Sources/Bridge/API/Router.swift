import Logging
import MicroHTTP

/// A method and a path with its endpoint.
struct Route: Sendable {
    typealias Endpoint = @Sendable (Request, PathParameters) async throws -> Response

    let method: String
    /// Segments as in openapi.yaml: `/api/v2/jobs/{id}`.
    let path: String
    let endpoint: Endpoint
    fileprivate let segments: [Substring]

    init(_ method: String, _ path: String, _ endpoint: @escaping Endpoint) {
        self.method = method
        self.path = path
        self.endpoint = endpoint
        segments = path.split(separator: "/", omittingEmptySubsequences: true)
    }

    fileprivate func parameters(of path: [Substring]) -> PathParameters? {
        guard path.count == segments.count else { return nil }
        var values: [Substring: Substring] = [:]
        for (segment, part) in zip(segments, path) {
            if segment.first == "{" { values[segment.dropFirst().dropLast()] = part } else if segment != part { return nil }
        }
        return PathParameters(values: values)
    }
}

struct PathParameters: Sendable {
    fileprivate let values: [Substring: Substring]

    /// The part of the path that `{name}` stands for.
    subscript(name: Substring) -> String { String(values[name] ?? "") }
}

/// Finds the endpoint of a request and turns whatever it throws into the error envelope.
struct Router: Sendable {
    let routes: [Route]
    let logger: Logger

    func respond(to request: Request) async -> Response {
        do {
            return try await find(request)
        } catch let error as APIError {
            return error.response
        } catch {
            logger.error(
                "a request failed unexpectedly", metadata: ["http.method": "\(request.method)", "http.path": "\(request.path)", "error": "\(error)"])
            return APIError.internalError.response
        }
    }

    private func find(_ request: Request) async throws -> Response {
        let path = request.path.split(separator: "/", omittingEmptySubsequences: true)
        let method = request.method == "HEAD" ? "GET" : request.method
        var allowed: [String] = []
        for route in routes {
            guard let parameters = route.parameters(of: path) else { continue }
            if route.method == method { return try await route.endpoint(request, parameters) }
            allowed += route.method == "GET" ? ["GET", "HEAD"] : [route.method]
        }
        guard allowed.isEmpty else {
            if method == "OPTIONS" { return Response(status: 204, headers: ["Allow": (allowed + ["OPTIONS"]).joined(separator: ", ")], body: .empty) }
            throw APIError.methodNotAllowed(request.method, allowed: allowed)
        }
        throw APIError.notFound("There is nothing at \(request.path); /openapi.yaml lists what there is.")
    }
}
