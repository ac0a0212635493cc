import Jobs
package import Logging
package import MicroHTTP
import OrderedJSON
import Wording

/// A method and a path with its endpoint.
package struct Route: Sendable {
    package typealias Endpoint = @Sendable (Request, PathParameters) async throws -> Response

    /// Who may use the route of a bridge that has tokens.
    package enum Access: Sendable {
        case open
        /// Open, and answered whatever name the caller has for the bridge.
        case probe
        case token
        /// Also who has a signed URL with exactly this path.
        case tokenOrSignature

        var isOpen: Bool { self == .open || self == .probe }
    }

    package let method: String
    /// Segments as in openapi.yaml: `/api/v2/jobs/{id}`.
    package let path: String
    package let access: Access
    /// What the endpoint reads of the body.
    package enum Body: Sendable {
        /// Nothing; there are clients that send a little all the same.
        case none
        case json
        /// A form, while it arrives.
        case form
    }

    package let body: Body
    /// Whether a request is new work, which a bridge that is being stopped does not take.
    let isWork: Bool
    package let endpoint: Endpoint
    fileprivate let segments: [Name]

    init(_ method: String, _ path: String, access: Access = .token, body: Body = .none, isWork: Bool = false, _ endpoint: @escaping Endpoint) {
        self.method = method
        self.path = path
        self.access = access
        self.body = body
        self.isWork = isWork
        self.endpoint = endpoint
        segments = Router.segments(of: path)
    }

    /// The methods that it answers: HEAD as GET, by leaving out the body.
    var methods: [String] { method == "GET" ? ["GET", "HEAD"] : [method] }

    fileprivate var isLiteral: Bool { !path.contains("{") }

    fileprivate func parameters(of path: [Name]) -> PathParameters? {
        guard path.count == segments.count else { return nil }
        var values: [Name: String] = [:]
        for (segment, part) in zip(segments, path) {
            if segment.text.hasPrefix("{") { values[String(segment.text.dropFirst().dropLast())] = part.text } else if segment != part { return nil }
        }
        return PathParameters(values: values)
    }
}

package struct PathParameters: Sendable {
    fileprivate let values: [Name: String]

    /// The part of the path that `{name}` stands for.
    package subscript(name: String) -> String { values[name] ?? "" }
}

/// Lets a request in or not, finds its endpoint, and turns whatever is thrown into the error envelope.
package struct Router: Sendable {
    private let routes: [Route]
    private let access: AccessGuard
    /// The path below which a proxy has put the bridge. Requests come with it or without, as the proxy likes; links have it.
    private let mount: String
    private let drain: Drain
    /// Bytes of a body that is collected.
    private let bodyLimit: Int
    /// Bytes of a form.
    private let uploadLimit: Int
    private let logger: Logger
    private let methods: [String]
    package let requests: RequestCounts

    /// Bytes of a body that nobody reads.
    private static let ignoredLimit = 64 * 1024

    package init(
        routes: [Route], access: AccessGuard, mount: String = "", drain: Drain, bodyLimit: Int = 64 << 20, uploadLimit: Int = 4096 << 20,
        logger: Logger
    ) {
        self.routes = routes
        self.access = access
        self.mount = mount
        self.drain = drain
        self.bodyLimit = bodyLimit
        self.uploadLimit = uploadLimit
        self.logger = logger
        methods = Set(routes.flatMap(\.methods)).sorted()
        requests = RequestCounts(routes: routes.flatMap { route in route.methods.map { ($0, route.path) } })
    }

    private func ownPath(_ path: String) -> String {
        guard !mount.isEmpty, path.utf8.starts(with: mount.utf8), path.utf8.dropFirst(mount.utf8.count).first == UInt8(ascii: "/") else { return path }
        return String(path[mount.utf8.endIndex...])
    }

    /// As nginx counts it; never sent.
    private static let clientLeft = 499

    private func isProbe(_ path: String) -> Bool { routes.contains { $0.access == .probe && $0.path.hasSameBytes(as: path) } }

    /// Decides by the head of a request who may ask and for what, so that nobody else's body is kept. It is not asked again.
    package func admit(_ head: Request) -> Admission {
        var request = head
        request.path = ownPath(request.path)
        request.query = URLSigner.withOptionsApart(request.query)
        var origin: String?
        var route: Route?
        do throws(APIError) {
            origin = try access.admit(request.headers, isProbe: isProbe(request.path))
            if origin != nil, let preflight = CrossOrigin.preflight(request, methods: methods) { return answered(request, preflight, for: origin, nil) }
            switch try find(request, &route) {
            case .answer(let response): return answered(request, response, for: origin, nil)
            case .endpoint(let route, let parameters):
                return .admitted(body: body(of: route)) { [origin, path = request.path, query = request.query] request in
                    var request = request
                    (request.path, request.query) = (path, query)
                    return await respond(to: request, route, parameters, origin)
                }
            }
        } catch {
            return answered(request, error.response, for: origin, route)
        }
    }

    private func body(of route: Route) -> RequestBody {
        switch route.body {
        case .none: .ignored(limit: Self.ignoredLimit)
        case .json: .collected(limit: bodyLimit)
        case .form: .streamed(limit: uploadLimit)
        }
    }

    private func answered(_ request: Request, _ response: Response, for origin: String?, _ route: Route?) -> Admission {
        .answered(finished(response, to: request, for: origin, route, since: .now))
    }

    private func respond(to request: Request, _ route: Route, _ parameters: PathParameters, _ origin: String?) async -> Response {
        let begin = ContinuousClock.now
        let response: Response
        var isLeft = false
        do {
            // The bridge may have begun to stop while the body came.
            if route.isWork, drain.isDraining { throw APIError.shuttingDown }
            response = try await route.endpoint(request, parameters)
        } catch let error as APIError {
            response = error.response
        } catch {
            isLeft = error is CancellationError
            response = failed(request, error).response
        }
        // A failure after the caller has left is counted as the caller's leaving.
        isLeft = isLeft || Task.isCancelled && response.status >= 500
        return finished(response, to: request, for: origin, route, since: begin, isLeft: isLeft && !drain.isDraining)
    }

    /// Logs the failure as the caller's leaving, the disk's or the bridge's.
    private func failed(_ request: Request, _ error: any Error) -> APIError {
        let metadata: Logger.Metadata = ["http.method": "\(request.method)", "http.path": "\(request.path)", "error": "\(ErrorWords.of(error))"]
        guard !Task.isCancelled, !(error is CancellationError) else {
            logger.debug("the caller left before its answer, or the bridge stops", metadata: metadata)
            return .shuttingDown
        }
        guard let error = error as? StorageError else {
            logger.error("a request failed unexpectedly", metadata: metadata)
            return .internalError
        }
        // A damaged file is logged where it is found.
        if !error.isDamage { logger.error("the disk failed a request", metadata: metadata) }
        return APIError(error)
    }

    private func finished(
        _ response: Response, to request: Request, for origin: String?, _ route: Route?, since begin: ContinuousClock.Instant, isLeft: Bool = false
    ) -> Response {
        var response = response
        complete(&response.headers, for: origin)
        requests.count(method: request.method, route: route?.path, status: isLeft ? Self.clientLeft : response.status)
        // Never the query: it may hold a signature.
        logger.debug(
            "answered a request",
            metadata: [
                "http.method": "\(request.method)", "http.path": "\(request.path)", "http.status": .stringConvertible(response.status),
                "duration_ms": .stringConvertible((.now - begin).milliseconds),
            ])
        return response
    }

    /// What every answer has.
    private func complete(_ headers: inout HTTPHeaders, for origin: String?) {
        headers["X-Content-Type-Options"] = "nosniff"
        access.crossOrigin.decorate(&headers, for: origin)
    }

    /// The answer to what the server refused by itself, also one that a page of an allowed origin may read.
    package func response(to failure: HTTPServerFailure, headers: HTTPHeaders?) -> Response {
        // Only routes that read no body have this limit.
        let error = failure == .bodyTooLarge(limit: Self.ignoredLimit) ? APIError.bodyNotRead(limit: Self.ignoredLimit) : APIError(failure)
        var response = error.response
        requests.count(method: "", route: nil, status: response.status)
        complete(&response.headers, for: headers.flatMap { try? access.admit($0) })
        return response
    }

    private enum Finding {
        case endpoint(Route, PathParameters)
        case answer(Response)
    }

    fileprivate static func segments(of path: String) -> [Name] {
        path.utf8.split(separator: UInt8(ascii: "/")).map { Name(String(Substring($0))) }
    }

    /// - Parameter named: the route that the request names, also when it may not have it.
    private func find(_ request: Request, _ named: inout Route?) throws(APIError) -> Finding {
        // The page's own links are relative to a folder.
        if !mount.isEmpty, request.path.hasSameBytes(as: mount) { return .answer(Response(status: 308, headers: ["Location": mount + "/"], body: .empty)) }
        let path = Router.segments(of: request.path)
        var others: [Route] = []
        for route in routes {
            guard let parameters = route.parameters(of: path), route.isLiteral || !others.contains(where: \.isLiteral) else { continue }
            if route.methods.contains(request.method) {
                named = route
                try access.authorize(request, for: route.access)
                if route.isWork, drain.isDraining { throw APIError.shuttingDown }
                if route.body == .form, !FormUpload.isForm(contentType: request.headers["Content-Type"]) { throw APIError.unsupportedMediaType }
                return .endpoint(route, parameters)
            }
            others.append(route)
        }
        // What is there and what is not is told to those who may know.
        try access.authorize(request, for: !others.isEmpty && others.allSatisfy(\.access.isOpen) ? .open : .token)
        guard others.isEmpty else {
            let allowed = others.flatMap(\.methods)
            if request.method == "OPTIONS" {
                return .answer(Response(status: 204, headers: ["Allow": (allowed + ["OPTIONS"]).joined(separator: ", ")], body: .empty))
            }
            throw APIError.methodNotAllowed(request.method, allowed: allowed)
        }
        throw APIError.notFound("There is nothing at \(request.path.excerpt); /openapi.yaml lists what there is.")
    }
}
