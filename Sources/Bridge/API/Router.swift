import Logging
import MicroHTTP

/// A method and a path with its endpoint.
struct Route: Sendable {
    typealias Endpoint = @Sendable (Request, PathParameters) async throws -> Response

    /// Who may use the route of a bridge that has tokens.
    enum Access: Sendable {
        case open
        case token
        /// Also who has a signed URL with exactly this path.
        case tokenOrSignature
    }

    let method: String
    /// Segments as in openapi.yaml: `/api/v2/jobs/{id}`.
    let path: String
    let access: Access
    /// Whether the body is a form with a file, which the endpoint reads while it arrives.
    let takesForm: Bool
    /// Whether a request is new work, which a bridge that is being stopped does not take.
    let isWork: Bool
    let endpoint: Endpoint
    fileprivate let segments: [Substring]

    init(_ method: String, _ path: String, access: Access = .token, takesForm: Bool = false, isWork: Bool = false, _ endpoint: @escaping Endpoint) {
        self.method = method
        self.path = path
        self.access = access
        self.takesForm = takesForm
        self.isWork = isWork
        self.endpoint = endpoint
        segments = path.split(separator: "/", omittingEmptySubsequences: true)
    }

    /// The methods that it answers: HEAD as GET, by leaving out the body.
    var methods: [String] { method == "GET" ? ["GET", "HEAD"] : [method] }

    fileprivate var isLiteral: Bool { !path.contains("{") }

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

/// Lets a request in or not, finds its endpoint, and turns whatever is thrown into the error envelope.
struct Router: Sendable {
    private let routes: [Route]
    private let access: AccessGuard
    /// The path below which a proxy has put the bridge. Requests come with it or without, as the proxy likes; links have it.
    private let mount: String
    private let drain: Drain
    private let logger: Logger
    private let methods: [String]
    let requests: RequestCounts

    init(routes: [Route], access: AccessGuard, mount: String = "", drain: Drain, logger: Logger) {
        self.routes = routes
        self.access = access
        self.mount = mount
        self.drain = drain
        self.logger = logger
        methods = Set(routes.flatMap(\.methods)).sorted()
        requests = RequestCounts(routes: routes.flatMap { route in route.methods.map { ($0, route.path) } })
    }

    func takesForm(_ method: String, _ path: String) -> Bool {
        let path = ownPath(path)
        return routes.contains { $0.takesForm && $0.method == method && $0.path == path }
    }

    private func ownPath(_ path: String) -> String {
        guard !mount.isEmpty, path.utf8.starts(with: mount.utf8), path.utf8.dropFirst(mount.utf8.count).first == UInt8(ascii: "/") else { return path }
        return String(path[mount.utf8.endIndex...])
    }

    func respond(to request: Request) async -> Response {
        let begin = ContinuousClock.now
        var request = request
        request.path = ownPath(request.path)
        request.query = URLSigner.withOptionsApart(request.query)
        var origin: String?
        var route: Route?
        var response: Response
        do throws(APIError) {
            origin = try access.admit(request.headers)
            if origin != nil, let preflight = CrossOrigin.preflight(request, methods: methods) {
                response = preflight
            } else {
                response = await answer(request, &route)
            }
        } catch {
            response = error.response
        }
        access.crossOrigin.decorate(&response.headers, for: origin)
        requests.count(method: request.method, route: route?.path, status: response.status)
        // Never the query: it may hold a signature.
        logger.debug(
            "answered a request",
            metadata: [
                "http.method": "\(request.method)", "http.path": "\(request.path)", "http.status": .stringConvertible(response.status),
                "duration_ms": .stringConvertible((.now - begin).milliseconds),
            ])
        return response
    }

    /// The answer to what the server refused by itself, also one that a page of an allowed origin may read.
    func response(to failure: HTTPServerFailure, headers: HTTPHeaders?) -> Response {
        var response = APIError(failure).response
        requests.count(method: "", route: nil, status: response.status)
        access.crossOrigin.decorate(&response.headers, for: headers.flatMap { try? access.admit($0) })
        return response
    }

    private func answer(_ request: Request, _ route: inout Route?) async -> Response {
        do {
            return try await find(request, &route)
        } catch let error as APIError {
            return error.response
        } catch {
            logger.error(
                "a request failed unexpectedly", metadata: ["http.method": "\(request.method)", "http.path": "\(request.path)", "error": "\(error)"])
            return APIError.internalError.response
        }
    }

    private func find(_ request: Request, _ found: inout Route?) async throws -> Response {
        // The page's own links are relative to a folder.
        if !mount.isEmpty, request.path == mount { return Response(status: 308, headers: ["Location": mount + "/"], body: .empty) }
        let path = request.path.split(separator: "/", omittingEmptySubsequences: true)
        var others: [Route] = []
        for route in routes {
            guard let parameters = route.parameters(of: path), route.isLiteral || !others.contains(where: \.isLiteral) else { continue }
            if route.methods.contains(request.method) {
                found = route
                try access.authorize(request, for: route.access)
                if route.isWork, drain.isDraining { throw APIError.shuttingDown }
                return try await route.endpoint(request, parameters)
            }
            others.append(route)
        }
        // What is there and what is not is told to those who may know.
        try access.authorize(request, for: !others.isEmpty && others.allSatisfy { $0.access == .open } ? .open : .token)
        guard others.isEmpty else {
            let allowed = others.flatMap(\.methods)
            if request.method == "OPTIONS" {
                return Response(status: 204, headers: ["Allow": (allowed + ["OPTIONS"]).joined(separator: ", ")], body: .empty)
            }
            throw APIError.methodNotAllowed(request.method, allowed: allowed)
        }
        throw APIError.notFound("There is nothing at \(request.path); /openapi.yaml lists what there is.")
    }
}
