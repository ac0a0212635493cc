import NIOHTTP1
import OrderedJSON

/// The table of routes, and what ComfyUI does around them: origin check, `/api` prefix, HEAD, OPTIONS, 404, 405 and the plain 500.
///
/// Runs on the event loop; each route runs to its end.
struct Router: Sendable {
    struct Route: Sendable {
        let method: HTTPMethod
        /// `{}` matches one segment.
        let pattern: [Substring]
        /// Reachable below `/api` too.
        let isMirrored: Bool
        /// The first version that has it.
        let since: ComfySimulator.Compatibility
        let handle: @Sendable (Router, Request, [String]) throws -> Reply

        init(
            _ method: HTTPMethod, _ pattern: String, mirrored: Bool = true, since: ComfySimulator.Compatibility = .v0_3_64,
            _ handle: @escaping @Sendable (Router, Request, [String]) throws -> Reply
        ) {
            self.method = method
            self.pattern = pattern.split(separator: "/")
            self.handle = handle
            isMirrored = mirrored
            self.since = since
        }

        /// What stands for each `{}`.
        func match(_ path: [Substring]) -> [String]? {
            guard path.count == pattern.count else { return nil }
            var parameters: [String] = []
            for (expected, segment) in zip(pattern, path) {
                if expected == "{}" { parameters.append(String(segment)) } else if expected != segment { return nil }
            }
            return parameters
        }
    }

    private static let routes: [Route] =
        promptRoutes + queueRoutes + infoRoutes + jobRoutes + fileRoutes + simulatorRoutes + [
            Route(.GET, "/") { _, _, _ in
                let page = "<!DOCTYPE html><title>Simulated ComfyUI</title><p>A simulated ComfyUI: the API works, there is no page.\n"
                return Reply(headers: ["Content-Type": "text/html"], body: .bytes(Array(page.utf8)))
            },
            Route(.GET, "/ws") { _, request, _ in
                let header = request.headers.first(name: "upgrade").map { "'\($0)'" } ?? "None"
                return .text("No WebSocket UPGRADE hdr: \(header)\n Can \"Upgrade\" only to \"WebSocket\".", status: .badRequest)
            },
        ]

    let configuration: ComfySimulator.Configuration
    let services: RunServices
    let queue: PromptQueue
    let logs: LogBook

    var compatibility: ComfySimulator.Compatibility { configuration.compatibility }
    /// From 0.25 on.
    var isNew: Bool { compatibility >= .v0_25_0 }

    func respond(_ request: Request) -> Reply {
        services.faults.tally.addRequest()
        return services.faults.disturb(request.method, request.path) { answer(request) }
    }

    private func answer(_ request: Request) -> Reply {
        guard Origin.isAllowed(request.headers, checksFetchSite: isNew) else { return .empty(.forbidden) }
        if request.method == .OPTIONS { return .empty() }
        let found = routes(for: request.path)
        let method: HTTPMethod = request.method == .HEAD ? .GET : request.method
        if let (route, parameters) = found.first(where: { $0.route.method == method }) {
            do {
                return try route.handle(self, request, parameters)
            } catch is Abandoned {
                return Reply(body: .hangUp)
            } catch {
                return .inTrouble
            }
        }
        if method == .GET { return .notFound }
        let allowed = Set(found.map(\.route.method.rawValue)).union(["GET", "HEAD"])  // the static folder takes these everywhere
        return .methodNotAllowed(allowed.sorted().joined(separator: ","))
    }

    /// Whether an upgrade request is for a socket and allowed.
    func acceptsSocket(_ head: HTTPRequestHead) -> Bool {
        let path = head.uri.prefix { $0 != "?" }
        return (path == "/ws" || path == "/api/ws") && Origin.isAllowed(head.headers, checksFetchSite: isNew)
    }

    private func routes(for path: String) -> [(route: Route, parameters: [String])] {
        let segments = path.split(separator: "/")
        let below = segments.first == "api" ? Array(segments.dropFirst()) : nil
        return Self.routes.compactMap { route in
            guard compatibility >= route.since else { return nil }
            if let parameters = route.match(segments) { return (route, parameters) }
            if route.isMirrored, let below, !below.isEmpty, let parameters = route.match(below) { return (route, parameters) }
            return nil
        }
    }
}
